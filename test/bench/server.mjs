/**
 * Serves the files of one folder on loopback for the overlay bench. Prints its address when it is ready; ends when
 * its stdin does, so that it never outlives the bench.
 */
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';

const [folder] = process.argv.slice(2);

const server = createServer((request, response) => {
  const file = join(folder, basename(request.url));
  response.writeHead(200, { 'content-length': statSync(file).size });
  createReadStream(file, { highWaterMark: 256 * 1024 }).pipe(response);
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
process.stdin.resume().on('end', () => process.exit());
