// The JavaScript clients of capture.py: `clients.mjs NAME PORT` makes one request.
//
// The host name is not in any DNS. Instead of giving each library a Host header,
// which would change what it sends, connections to the name are led to the
// listener here, so that every client builds its request as it would in the field.
//
// `clients.mjs --version CLIENT` prints the client's name and version. npm packages
// are looked up in $CAPTURE_NODE_DIR, else beside this file.

import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

const HOST = 'api.shop.example';
const BASE = `http://${HOST}`;
const EVENTS = `${BASE}/v1/events`;
const TENANT_KEY = 'ptc_tkAcme01_2QDM4q6fFuV4VikgcpcPavCAp0IgQxGo54Otfsw';
const WORKSPACE_KEY = 'ptc_wsAcme01_1IrZKglEufK5GrJwD52BfXI0ak2crIYfj4LVRhi';
const MANAGEMENT_KEY = 'ptc_mkAcme01_2KJ8uw4vGoDcIbwJQFwbZuc6vYZt7uSkh2P31Dn';
const WRONG_KEY = 'ptc_wrong000_4NfQ8rXw2LbT6mYc0HsV9kJd3ZpG7aUe1RiK5oB';
const KEY = { 'X-API-Key': TENANT_KEY };
const TWO_KEYS = { 'X-API-Key': [WRONG_KEY, TENANT_KEY] };
const TWO_PAIRS = [['X-API-Key', WRONG_KEY], ['X-API-Key', TENANT_KEY]];
const JSON_KEY = { ...KEY, 'Content-Type': 'application/json' };
const EVENT = { type: 'order.paid', amount: 1999 };
const BODY = JSON.stringify(EVENT);
const FORM = new URLSearchParams({ type: 'order.paid', note: '50% off & thank you' });

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = path.resolve(process.env.CAPTURE_NODE_DIR || here);

async function load(name) {
  const file = createRequire(path.join(modules, 'index.js')).resolve(name);
  return import(pathToFileURL(file));
}

function version(name) {
  const file = path.join(modules, 'node_modules', name, 'package.json');
  return JSON.parse(fs.readFileSync(file)).version;
}

/** Lead every connection to HOST to the listener, whatever port was asked for. */
function sendTo(port) {
  const connect = net.Socket.prototype.connect;
  net.Socket.prototype.connect = function (...args) {
    // net.connect() passes its arguments on as one array, [options, callback].
    const options = Array.isArray(args[0]) ? args[0][0] : args[0];
    if (options.host === HOST || options.hostname === HOST) {
      Object.assign(options, { host: '127.0.0.1', hostname: '127.0.0.1', port });
    }
    return connect.apply(this, args);
  };
}

/** One request by the http module; `write` sends the body and ends it. */
function viaHttp(options, write = (request) => request.end()) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: HOST, path: '/v1/events', ...options }, (response) => {
      response.resume().on('end', resolve);
    });
    request.on('error', reject);
    write(request);
  });
}

async function* stream() {
  yield Buffer.from('{"type":"order.paid",');
  yield Buffer.from('"amount":1999}');
}

const text = async (response) => (await response).text();

const clients = {
  'nodejs-fetch': {
    version: () => `Node.js ${process.versions.node} fetch (undici ${process.versions.undici})`,
    'get-tenant-key': () => text(fetch(EVENTS, { headers: KEY })),
    'post-json': () => text(fetch(EVENTS, { method: 'POST', headers: JSON_KEY, body: BODY })),
    'get-duplicate-key': () => text(fetch(EVENTS, { headers: TWO_PAIRS })),
    'get-dotdot': () => text(fetch(`${BASE}/v1/a/../customers/%2e%2e/events`, { headers: KEY })),
    'post-stream': () => text(fetch(EVENTS, {
      method: 'POST', headers: JSON_KEY, body: ReadableStream.from(stream()), duplex: 'half',
    })),
    'post-form': () => text(fetch(EVENTS, { method: 'POST', headers: KEY, body: FORM })),
  },
  'nodejs-http': {
    version: () => `Node.js ${process.versions.node} http`,
    'get-tenant-key': () => viaHttp({ headers: KEY }),
    'post-json': () => viaHttp({ method: 'POST', headers: JSON_KEY }, (r) => r.end(BODY)),
    'get-duplicate-key': () => viaHttp({ headers: TWO_KEYS }),
    'get-dotdot': () => viaHttp({ path: '/v1/a/../events', headers: KEY }),
    'get-lowercase-header': () => viaHttp({ headers: { 'x-api-key': TENANT_KEY, host: HOST } }),
    'post-expect-continue': () => viaHttp({
      method: 'POST',
      headers: { ...JSON_KEY, 'Content-Length': BODY.length, Expect: '100-continue' },
    }, (r) => r.on('continue', () => r.end(BODY)).flushHeaders()),
    'post-chunked-trailers': () => viaHttp({
      method: 'POST', headers: { ...JSON_KEY, Trailer: 'X-API-Key' },
    }, async (r) => {
      for await (const chunk of stream()) r.write(chunk);
      r.addTrailers({ 'X-API-Key': WRONG_KEY });
      r.end();
    }),
    'delete': () => viaHttp({
      method: 'DELETE', path: '/v1/customers/cus_7',
      headers: { Authorization: `ManagementKey-v1 ${MANAGEMENT_KEY}` },
    }),
  },
  'undici': {
    version: () => `undici ${version('undici')} request (Node.js ${process.versions.node})`,
    'get-tenant-key': async ({ request }) => (await request(EVENTS, { headers: KEY })).body.text(),
    'post-json': async ({ request }) =>
      (await request(EVENTS, { method: 'POST', headers: JSON_KEY, body: BODY })).body.text(),
    'get-duplicate-key': async ({ request }) =>
      (await request(EVENTS, { headers: TWO_KEYS })).body.text(),
  },
  'axios': {
    version: () => `axios ${version('axios')} (Node.js ${process.versions.node})`,
    'get-tenant-key': (axios) => axios.get(EVENTS, { headers: KEY }),
    'post-json': (axios) => axios.post(EVENTS, EVENT, { headers: KEY }),
    'get-duplicate-key': (axios) => axios.get(EVENTS, { headers: TWO_KEYS }),
    'get-query-key-twice': (axios) =>
      axios.get(EVENTS, { params: { api_key: [WRONG_KEY, WORKSPACE_KEY] } }),
    'get-basic': (axios) => axios.get(EVENTS, { auth: { username: 'shop', password: 'example' } }),
    'post-form': (axios) => axios.post(EVENTS, FORM, { headers: KEY }),
  },
  'got': {
    version: () => `got ${version('got')} (Node.js ${process.versions.node})`,
    'get-tenant-key': (got) => got(EVENTS, { headers: KEY }),
    'post-json': (got) => got.post(EVENTS, { headers: KEY, json: EVENT }),
    'get-duplicate-key': (got) => got(EVENTS, { headers: TWO_KEYS }),
    'get-workspace-key-query': (got) =>
      got(`${BASE}/v1/coupons/SPRING`, { searchParams: { api_key: WORKSPACE_KEY } }),
  },
  'npm-node-fetch': {
    package: 'node-fetch',
    version: () => `node-fetch ${version('node-fetch')} (Node.js ${process.versions.node})`,
    'get-tenant-key': (nodeFetch) => text(nodeFetch(EVENTS, { headers: KEY })),
    'post-json': (nodeFetch) =>
      text(nodeFetch(EVENTS, { method: 'POST', headers: JSON_KEY, body: BODY })),
    'get-duplicate-key': (nodeFetch) => text(nodeFetch(EVENTS, { headers: TWO_PAIRS })),
  },
};

const [name, argument] = process.argv.slice(2);
if (name === '--version') {
  console.log(clients[argument].version());
} else {
  const client = Object.keys(clients).find((key) => name.startsWith(`${key}-`));
  const what = name.slice(client.length + 1);
  const library = client.startsWith('nodejs-')
    ? undefined
    : (await load(clients[client].package ?? client)).default;
  sendTo(Number(argument));
  await clients[client][what](library);
  process.exit(0); // do not wait for kept-alive connections
}
