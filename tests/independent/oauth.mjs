// openid-client of npm as a client of Portcullis: discovery by RFC 8414, client credentials, verification by the key set.
import assert from 'node:assert/strict'
import * as oauth from 'openid-client'
import { createRemoteJWKSet, jwtVerify } from 'jose'

const { ISSUER, ALGORITHM, CLIENT_ID, CLIENT_SECRET } = process.env
for (const method of [oauth.ClientSecretBasic, oauth.ClientSecretPost]) {
  const config = await oauth.discovery(new URL(ISSUER), CLIENT_ID, undefined, method(CLIENT_SECRET), {
    algorithm: 'oauth2',
    execute: [oauth.allowInsecureRequests],
  })
  const server = config.serverMetadata()
  assert.equal(server.issuer, ISSUER)
  const token = await oauth.clientCredentialsGrant(config, { scope: 'orders', resource: 'https://api.example' })
  assert.equal(token.token_type, 'bearer')
  assert.equal(token.scope, 'orders')
  const keys = createRemoteJWKSet(new URL(server.jwks_uri))
  const { payload, protectedHeader } = await jwtVerify(token.access_token, keys, {
    issuer: ISSUER, audience: 'https://api.example', typ: 'at+jwt', algorithms: [ALGORITHM],
  })
  assert.equal(protectedHeader.alg, ALGORITHM)
  assert.equal(payload.client_id, CLIENT_ID)
  const answer = await oauth.fetchProtectedResource(
    config, token.access_token, new URL('/orders', ISSUER), 'GET', undefined, undefined,
    { [oauth.allowInsecureRequests]: true },
  )
  assert.equal(answer.status, 200)
  const beyond = oauth.clientCredentialsGrant(config, { resource: 'https://other.example' })
  await assert.rejects(beyond, (error) => error.error === 'invalid_target')
}
