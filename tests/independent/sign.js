// Signs a request, described as JSON on standard input, with npm's escher-auth. Prints the signed request as JSON.
'use strict';

const fs = require('fs');
const path = require('path');

const folder = process.argv[2];
const Escher = require(path.join(folder, 'node_modules', 'escher-auth'));

const ask = JSON.parse(fs.readFileSync(0, 'utf8'));
const profile = ask.profile;
const escher = new Escher({
  algoPrefix: profile.algorithm_prefix,
  vendorKey: profile.vendor_key,
  hashAlgo: profile.hash.toUpperCase(),
  credentialScope: profile.credential_scope,
  authHeaderName: profile.auth_header,
  dateHeaderName: profile.date_header,
  accessKeyId: ask.key,
  apiSecret: ask.secret
});
if (ask.expires) {
  console.log(JSON.stringify({ method: 'GET', url: escher.preSignUrl(ask.url, ask.expires), headers: [], body: '' }));
} else {
  const parsed = new URL(ask.url);
  const request = {
    method: ask.method,
    host: ask.host,
    url: ask.url.slice(parsed.origin.length),
    headers: [['host', ask.host], ...ask.headers]
  };
  const signed = escher.signRequest(request, ask.body || '', ask.headers.map(([name]) => name.toLowerCase()));
  console.log(JSON.stringify({ method: ask.method, url: ask.url, headers: signed.headers, body: ask.body || '' }));
}
