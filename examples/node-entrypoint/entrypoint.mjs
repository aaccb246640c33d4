// An entrypoint that is a Node program itself: it prepares, then hands over. With hooks, so that a stop and a fault
// leave their mark where the rest of the system looks for them.
import { writeFileSync } from 'node:fs';
import { runEntry } from 'ddbg-entry';

const port = Number(process.env.PORT ?? 8080);
if (!Number.isInteger(port)) {
  console.error(`entrypoint: PORT must be a number, not ${process.env.PORT}`);
  process.exit(78);
}

const status = await runEntry({
  argv: ['--', 'node', '/app/worker.js', String(port)],
  hooks: {
    beforeStop: (signal) => console.log(`entrypoint: ${signal}, leaving the load balancer first`),
    afterStop: () => console.log('entrypoint: stopped in good order'),
    onFault: (fault) => writeFileSync('/tmp/last-fault', `${fault.summary}\n`),
    beforePark: () => console.log('entrypoint: held, readiness is off'),
  },
});
process.exit(status);
