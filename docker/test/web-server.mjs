/**
 * Serves /srv on the container's own 127.0.0.1:8000: the tests' archives, without a network. Says "ready" once it
 * listens, then one line a request ("GET /patch.tar.gz 200"), so that a test can see what was asked for.
 * What is asked for below /stall/ never comes: headers, one byte, and silence.
 */
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const server = createServer((request, response) => {
  // URL has already resolved any "..": the path cannot leave /srv.
  const { pathname } = new URL(request.url, 'http://127.0.0.1');
  if (pathname.startsWith('/stall/')) {
    response.writeHead(200, { 'content-length': 1_000_000 }).write('x');
    console.log(`${request.method} ${request.url} stalls`);
    return;
  }
  const file = join('/srv', decodeURIComponent(pathname));
  const found = statSync(file, { throwIfNoEntry: false });
  const status = found?.isFile() ? 200 : 404;
  console.log(`${request.method} ${request.url} ${status}`);
  if (status === 404) {
    response.writeHead(404).end('not found\n');
    return;
  }
  response.writeHead(200, { 'content-length': found.size, 'content-type': 'application/octet-stream' });
  if (request.method === 'HEAD') response.end();
  else createReadStream(file).pipe(response);
});
server.listen(8000, '127.0.0.1', () => console.log('ready'));
