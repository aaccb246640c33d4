// A server that reads its configuration at the start and dies of a bad one: something to debug.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const config = JSON.parse(readFileSync(new URL('config.json', import.meta.url), 'utf8'));
const greeting = config.greeting.trim(); // a TypeError: the configuration says "greting"
const server = createServer((_, response) => response.end(`${greeting.toUpperCase()}\n`));
server.listen(config.port, () => console.log(`listening on ${config.port}`));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
