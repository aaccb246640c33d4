// Works until it is told to stop; `PORT=0` is its fault.
const port = Number(process.argv[2]);
if (port === 0) throw new Error('no port to work on');
console.log(`working on ${port}`);
const work = setInterval(() => {}, 1_000);
process.on('SIGTERM', () => clearInterval(work));
