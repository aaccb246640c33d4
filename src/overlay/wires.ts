/**
 * The connections of a download, straight to the server or through a proxy: one at a time, and cut at once when asked.
 *
 * The sockets are ours, not an http.Agent's: what waits for a name, a connection, a proxy, a TLS handshake or an answer
 * waits for a socket that can be destroyed, and rejects with the reason that it was destroyed for.
 */
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { HttpProxy } from './proxy.ts';

export interface Wires {
  /** The head of the answer. Its body is read by the caller, or is gone with the next request. */
  get(
    url: URL,
    headers: Readonly<Record<string, string>>,
    proxy: HttpProxy | undefined,
  ): Promise<IncomingMessage>;
  /** Ends what is open and what waits; later requests reject with the same reason. */
  cut(reason: Error): void;
  readonly cutBecause: Error | undefined;
  /** The error that ended the connection of the last request, if one did. */
  readonly failure: Error | undefined;
}

/** What a proxy said instead of opening the way. */
export class TunnelRefused extends Error {
  readonly answer: IncomingMessage;

  constructor(answer: IncomingMessage) {
    super('the proxy refused');
    this.answer = answer;
  }
}

/**
 * How long an address of several may stay silent before the next one is tried. Node's own 250 ms give a server half
 * around the world up for good when the other address is an IPv6 one without a route.
 */
const NEXT_ADDRESS_AFTER_MS = 1000;

/** @param heard called whenever something came: a connection, a handshake, an answer */
export function openWires(heard: () => void): Wires {
  // Loaded here: 3 ms for http, 3 more for tls (measured), which a file: archive does without.
  const http = process.getBuiltinModule('node:http');
  const net = process.getBuiltinModule('node:net');
  const sockets = new Set<Socket>();
  let cutBecause: Error | undefined;
  let failure: Error | undefined;

  const hangUp = (reason?: Error): void => {
    for (const socket of sockets) socket.destroy(reason);
    sockets.clear();
  };

  const ready = <Kind extends Socket>(socket: Kind, event: string): Promise<Kind> => {
    sockets.add(socket);
    return new Promise((resolve, reject) => {
      socket.on('error', (error) => {
        // This listener stays: an error that nobody listens to ends node.
        if (sockets.has(socket)) failure = error;
        reject(error);
      });
      socket.once('close', () => reject(broken('the connection was closed')));
      socket.once(event, () => {
        heard();
        resolve(socket);
      });
      if (cutBecause !== undefined) socket.destroy(cutBecause);
    });
  };

  const connect = (url: URL): Promise<Socket> => {
    const { host, port } = addressOf(url);
    const options = { host, port, autoSelectFamilyAttemptTimeout: NEXT_ADDRESS_AFTER_MS };
    return ready(net.connect(options), 'connect');
  };

  const encrypt = (socket: Socket, url: URL): Promise<Socket> => {
    const { host } = addressOf(url);
    const servername = net.isIP(host) === 0 ? host : ''; // an address is no name to ask for: RFC 6066, 3
    const tls = process.getBuiltinModule('node:tls');
    return ready(tls.connect({ socket, host, servername, ALPNProtocols: ['http/1.1'] }), 'secureConnect');
  };

  const reach = async (url: URL): Promise<Socket> => {
    const socket = await connect(url);
    return url.protocol === 'https:' ? encrypt(socket, url) : socket;
  };

  const send = (
    socket: Socket,
    method: 'GET' | 'CONNECT',
    path: string,
    headers: OutgoingHttpHeaders,
  ): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      if (cutBecause !== undefined) return reject(cutBecause); // a request on a dead socket is never answered
      const answered = (answer: IncomingMessage): void => {
        answer.on('error', () => {}); // whoever reads it hears of it
        heard();
        resolve(answer);
      };
      const request = http.request({ method, path, headers, setHost: false, createConnection: () => socket });
      request.on('error', reject).once('response', answered).once('upgrade', answered);
      request.once('close', () => reject(broken('the connection was closed')));
      request.once('connect', (answer: IncomingMessage, _socket, early: Buffer) => {
        if (early.length > 0) socket.unshift(early);
        answered(answer);
      });
      request.end();
    });

  const tunnel = async (
    socket: Socket,
    url: URL,
    proxy: HttpProxy,
    agent: string | undefined,
  ): Promise<void> => {
    const { host, port } = addressOf(url);
    const target = `${net.isIPv6(host) ? `[${host}]` : host}:${port}`;
    const headers = {
      host: target,
      ...(agent === undefined ? {} : { 'user-agent': agent }),
      ...proxy.headers,
    };
    const answer = await send(socket, 'CONNECT', target, headers);
    if (Math.floor((answer.statusCode ?? 0) / 100) !== 2) throw new TunnelRefused(answer);
  };

  return {
    get cutBecause() {
      return cutBecause;
    },
    get failure() {
      return failure;
    },
    cut(reason) {
      cutBecause ??= reason;
      hangUp(reason);
    },
    async get(url, given, proxy) {
      hangUp();
      failure = undefined;
      const headers = { host: url.host, ...given };
      const path = url.pathname + url.search;
      if (proxy === undefined) return send(await reach(url), 'GET', path, headers);
      const socket = await reach(proxy.url);
      if (url.protocol === 'http:') return send(socket, 'GET', url.href, { ...headers, ...proxy.headers });
      await tunnel(socket, url, proxy, given['user-agent']);
      return send(await encrypt(socket, url), 'GET', path, headers);
    },
  };
}

function addressOf(url: URL): { host: string; port: number } {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { host, port: Number(url.port || (url.protocol === 'https:' ? 443 : 80)) };
}

function broken(message: string): Error {
  return Object.assign(new Error(message), { code: 'ECONNRESET' });
}
