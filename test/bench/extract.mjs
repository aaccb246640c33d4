/** The peer: fetches a tar.gz and has node-tar extract it. `node extract.mjs URL DIRECTORY` */
import { get } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar';

const [url, cwd] = process.argv.slice(2);
const response = await new Promise((resolve, reject) => get(url, resolve).once('error', reject));
if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
await pipeline(response, extract({ cwd, strict: true }));
