import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { download, proxyFor } from '../../lib/native/download.js';
import { temporaryFolder } from './support/trees.js';

describe('download', () => {
  const folder = temporaryFolder();
  const servers: http.Server[] = [];
  const serve = async (handler: http.RequestListener): Promise<string> => {
    const server = http.createServer(handler);
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  };
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
  });
  const content = Buffer.from(Array.from({ length: 50_000 }, (_, i) => i % 251));
  const target = (): string => path.join(folder(), 'file.bin');

  /** Serves `content`, from where the client asks; `cut` may end a response early. */
  const serveContent = (
    seen: (string | undefined)[],
    cut?: (request: number) => number,
  ): Promise<string> =>
    serve((request, response) => {
      seen.push(request.headers.range);
      const start = Number(request.headers.range?.match(/\d+/)?.[0] ?? 0);
      const length = content.length - start;
      response.writeHead(start > 0 ? 206 : 200, { ETag: '"v1"', 'Content-Length': length });
      const end = cut?.(seen.length) ?? length;
      if (end >= length) response.end(content.subarray(start));
      else response.write(content.subarray(start, start + end), () => response.destroy());
    });

  it('goes on with what an earlier run left', async () => {
    fs.writeFileSync(`${target()}.part`, content.subarray(0, 20_000));
    fs.writeFileSync(`${target()}.part.tag`, '"v1"');
    const ranges: (string | undefined)[] = [];
    await download(`${await serveContent(ranges)}/file`, target(), { env: {} });
    assert.ok(fs.readFileSync(target()).equals(content));
    assert.deepEqual(ranges, ['bytes=20000-']);
    assert.deepEqual(fs.readdirSync(folder()), ['file.bin']);
  });

  it('takes a transfer up again that broke off', async () => {
    const ranges: (string | undefined)[] = [];
    const address = await serveContent(ranges, (request) =>
      request < 3 ? 10_000 : content.length,
    );
    await download(`${address}/file`, target(), { env: {} });
    assert.ok(fs.readFileSync(target()).equals(content));
    assert.equal(ranges.length, 3);
  });

  it('starts over when the server has another file by now', async () => {
    fs.writeFileSync(`${target()}.part`, content.subarray(0, 10));
    fs.writeFileSync(`${target()}.part.tag`, '"old"');
    const address = await serve((request, response) => {
      assert.equal(request.headers['if-range'], '"old"');
      response.writeHead(200, { ETag: '"new"', 'Content-Length': 3 }).end('new');
    });
    await download(`${address}/file`, target(), { env: {} });
    assert.equal(fs.readFileSync(target(), 'utf8'), 'new');
  });

  it('follows redirects', async () => {
    const address = await serve((request, response) => {
      if (request.url === '/old') response.writeHead(302, { Location: '/new' }).end();
      else response.end('here');
    });
    await download(`${address}/old`, target(), { env: {} });
    assert.equal(fs.readFileSync(target(), 'utf8'), 'here');
  });

  it('takes a refusal as final and leaves no file', async () => {
    let requests = 0;
    const address = await serve((_, response) => {
      requests++;
      response.writeHead(404).end();
    });
    await assert.rejects(download(`${address}/file`, target(), { env: {} }), (error: Error) => {
      assert.match(error.message, /status 404/);
      return true;
    });
    assert.equal(requests, 1);
    assert.equal(fs.existsSync(target()), false);
  });

  it('gives up on a server that never answers', async () => {
    const address = await serve(() => {});
    await assert.rejects(
      download(address, target(), { env: {}, connectTimeout: 50 }),
      /no answer .* within 50 ms/,
    );
    await assert.rejects(download('http://127.0.0.1:1/x', target(), { env: {} }), {
      code: 'ERR_DOWNLOAD',
    });
  });

  it('goes through the proxy of the environment', async () => {
    const seen: string[] = [];
    const proxy = await serve((request, response) => {
      seen.push(`${request.url} ${request.headers['proxy-authorization']}`);
      response.end('through the proxy');
    });
    const env = { http_proxy: proxy.replace('//', '//me:secret@') };
    await download('http://far.example/file', target(), { env });
    assert.equal(fs.readFileSync(target(), 'utf8'), 'through the proxy');
    assert.deepEqual(seen, [
      `http://far.example/file Basic ${Buffer.from('me:secret').toString('base64')}`,
    ]);
  });

  it('asks the proxy for a tunnel to a secure server', async () => {
    const proxy = await serve(() => {});
    const asked: (string | undefined)[] = [];
    servers[0].on('connect', (request, socket) => {
      asked.push(request.url);
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    });
    const env = { HTTPS_PROXY: proxy };
    await assert.rejects(
      download('https://far.example/file', target(), { env }),
      /refused: status 403/,
    );
    assert.deepEqual(asked, ['far.example:443']);
  });

  it('chooses the proxy by protocol and exceptions', () => {
    const env = {
      HTTPS_PROXY: 'proxy:8080',
      NO_PROXY: 'localhost, .inner.example,other.example:8443',
    };
    const host = (url: string): string | undefined => proxyFor(new URL(url), env)?.host;
    assert.equal(host('https://far.example/'), 'proxy:8080');
    assert.equal(host('http://far.example/'), undefined);
    assert.equal(host('https://a.inner.example/'), undefined);
    assert.equal(host('https://other.example/'), 'proxy:8080');
    assert.equal(host('https://other.example:8443/'), undefined);
    assert.equal(
      proxyFor(new URL('https://x.example'), { all_proxy: 'http://p:1', no_proxy: '*' }),
      null,
    );
    assert.equal(proxyFor(new URL('https://x.example'), { all_proxy: 'http://p:1' })?.host, 'p:1');
  });
});
