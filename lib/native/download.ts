import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type net from 'node:net';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import tls from 'node:tls';
import { messageOf, NativeError } from '../util/errors.js';
import type { Env } from './paths.js';

export interface DownloadOptions {
  env?: Env;
  /** Time to reach the server, in milliseconds; short, because there is another way when it is out of reach. */
  connectTimeout?: number;
  /** Longest silence in the middle of a transfer, in milliseconds. */
  idleTimeout?: number;
  /** How often a broken transfer is taken up again where it stopped. */
  retries?: number;
  onProgress?: (done: number, total: number) => void;
}

/**
 * The proxy for an address according to `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` (either case),
 * or null.
 */
export function proxyFor(url: URL, env: Env = process.env): URL | null {
  const read = (name: string): string | undefined => env[name] || env[name.toLowerCase()];
  const excluded = (read('NO_PROXY') ?? '').split(/[\s,]+/).filter(Boolean);
  for (const rule of excluded) {
    const [name, port] = rule.replace(/^\*?\./, '').split(':');
    if (port !== undefined && port !== (url.port || (url.protocol === 'https:' ? '443' : '80')))
      continue;
    if (rule === '*' || url.hostname === name || url.hostname.endsWith(`.${name}`)) return null;
  }
  const proxy = read(url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY') ?? read('ALL_PROXY');
  if (!proxy) return null;
  return new URL(proxy.includes('://') ? proxy : `http://${proxy}`);
}

/** Opens a TLS connection to `url` through the proxy's CONNECT. */
function tunnel(url: URL, proxy: URL, timeout: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const headers: Record<string, string> = { Host: `${url.hostname}:${url.port || 443}` };
    const authorization = proxyAuthorization(proxy);
    if (authorization) headers['Proxy-Authorization'] = authorization;
    const client = proxy.protocol === 'https:' ? https : http;
    const request = client.request({
      host: proxy.hostname,
      port: proxy.port || (proxy.protocol === 'https:' ? 443 : 80),
      method: 'CONNECT',
      path: `${url.hostname}:${url.port || 443}`,
      headers,
      timeout,
    });
    request.once('timeout', () => request.destroy(new Error(`proxy ${proxy.host}: no answer`)));
    request.once('error', reject);
    request.once('connect', (response, socket) => {
      if (response.statusCode !== 200) {
        socket.destroy();
        reject(new Error(`proxy ${proxy.host} refused: status ${response.statusCode}`));
        return;
      }
      const secure = tls.connect({ socket, servername: url.hostname });
      secure.once('secureConnect', () => resolve(secure));
      secure.once('error', reject);
    });
    request.end();
  });
}

function proxyAuthorization(proxy: URL): string | undefined {
  if (!proxy.username) return undefined;
  const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return `Basic ${Buffer.from(pair).toString('base64')}`;
}

/** One GET, redirects followed; resolves with the response as soon as its headers are there. */
async function get(
  url: URL,
  headers: Record<string, string>,
  options: Required<Pick<DownloadOptions, 'connectTimeout' | 'idleTimeout'>> & { env: Env },
  redirects = 5,
): Promise<http.IncomingMessage> {
  const proxy = proxyFor(url, options.env);
  const secure = url.protocol === 'https:';
  const extra: https.RequestOptions = {};
  if (proxy && secure) {
    const socket = await tunnel(url, proxy, options.connectTimeout);
    extra.createConnection = () => socket;
  }
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    const viaProxy = proxy !== null && !secure;
    const authorization = viaProxy ? proxyAuthorization(proxy) : undefined;
    const request = (secure ? https : http).request({
      ...extra,
      agent: false,
      host: viaProxy ? proxy.hostname : url.hostname,
      port: viaProxy ? proxy.port || 80 : url.port || (secure ? 443 : 80),
      path: viaProxy ? url.href : url.pathname + url.search,
      headers: {
        Host: url.host,
        'User-Agent': 'srum',
        ...(authorization ? { 'Proxy-Authorization': authorization } : {}),
        ...headers,
      },
    });
    const timer = setTimeout(() => {
      request.destroy(new Error(`no answer from ${url.host} within ${options.connectTimeout} ms`));
    }, options.connectTimeout);
    request.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    request.once('response', (message) => {
      clearTimeout(timer);
      message.setTimeout(options.idleTimeout, () => {
        message.destroy(new Error(`${url.host} sent nothing for ${options.idleTimeout} ms`));
      });
      resolve(message);
    });
    request.end();
  });
  const { statusCode = 0 } = response;
  if ([301, 302, 303, 307, 308].includes(statusCode) && response.headers.location) {
    response.resume();
    if (redirects === 0) throw new Error(`too many redirects from ${url.host}`);
    return get(new URL(response.headers.location, url), headers, options, redirects - 1);
  }
  return response;
}

/** Thrown where asking again is no use: the server answered, and the answer is no. */
class FinalAnswer extends Error {}

/**
 * Fetches `address` to `target`. Bytes are collected in `target.part`, so a broken or stopped transfer goes on where
 * it ended; the file gets its name only when it is complete.
 *
 * @throws NativeError ERR_DOWNLOAD when the server cannot be reached, refuses, or sends too little.
 */
export async function download(
  address: string,
  target: string,
  options: DownloadOptions = {},
): Promise<void> {
  const url = new URL(address);
  const settings = {
    env: options.env ?? process.env,
    connectTimeout: options.connectTimeout ?? 4000,
    idleTimeout: options.idleTimeout ?? 30_000,
  };
  const retries = options.retries ?? 5;
  fs.mkdirSync(path.dirname(target), { recursive: true });
  let reached = false;
  for (let attempt = 0; ; attempt++) {
    const before = partSize(target);
    try {
      await attemptDownload(url, target, settings, options.onProgress, () => {
        reached = true;
      });
      return;
    } catch (error) {
      const moved = partSize(target) > before;
      // A server that never answered is not worth waiting for; one that broke off in the middle is.
      if (error instanceof FinalAnswer || !reached || (attempt >= retries && !moved)) {
        throw new NativeError(
          'ERR_DOWNLOAD',
          `cannot fetch ${url.href}: ${messageOf(error)}`,
          {},
          { cause: error },
        );
      }
      await new Promise((resolve) => setTimeout(resolve, Math.min(8000, 500 * 2 ** attempt)));
    }
  }
}

function partSize(target: string): number {
  return fs.statSync(`${target}.part`, { throwIfNoEntry: false })?.size ?? 0;
}

async function attemptDownload(
  url: URL,
  target: string,
  settings: { env: Env; connectTimeout: number; idleTimeout: number },
  onProgress: DownloadOptions['onProgress'],
  onReached: () => void,
): Promise<void> {
  const part = `${target}.part`;
  const tagFile = `${part}.tag`;
  let done = partSize(target);
  const tag = fs.existsSync(tagFile) ? fs.readFileSync(tagFile, 'utf8') : '';
  // Without the server's tag there is no telling whether it still has the same file.
  if (tag === '') done = 0;
  const headers: Record<string, string> =
    done > 0 ? { Range: `bytes=${done}-`, 'If-Range': tag } : {};
  const response = await get(url, headers, settings);
  onReached();
  if (response.statusCode === 416) {
    // The rest of an already complete file was asked for: start over, the checksum decides.
    response.resume();
    fs.rmSync(part, { force: true });
    fs.rmSync(tagFile, { force: true });
    throw new Error('the server does not have that range');
  }
  if (response.statusCode !== 200 && response.statusCode !== 206) {
    response.resume();
    const text = `status ${response.statusCode} ${response.statusMessage ?? ''}`.trim();
    throw (response.statusCode ?? 500) < 500 ? new FinalAnswer(text) : new Error(text);
  }
  if (response.statusCode === 200) done = 0;
  const length = Number(response.headers['content-length'] ?? Number.NaN);
  const total = Number.isFinite(length) ? done + length : 0;
  const strong = response.headers.etag;
  fs.writeFileSync(tagFile, strong && !strong.startsWith('W/') ? strong : '');
  const file = fs.createWriteStream(part, { flags: done > 0 ? 'a' : 'w' });
  response.on('data', (chunk: Buffer) => {
    done += chunk.length;
    onProgress?.(done, total);
  });
  await pipeline(response, file);
  if (total > 0 && done !== total) throw new Error(`${done} of ${total} bytes arrived`);
  fs.renameSync(part, target);
  fs.rmSync(tagFile, { force: true });
}
