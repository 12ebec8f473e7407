// node's oidc-provider (certified by the OpenID Foundation), as strict as it comes; see openid_provider.py.
//
// People sign in as anybody they name, with any password. A second port, without TLS and only for the tests, answers
// mail servers (RFC 7662, without authentication) and lets a test change settings and read counts.

import { readFileSync } from 'node:fs';
import { createServer as plain } from 'node:http';
import { createServer as secure } from 'node:https';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { Provider } = await import(settings.module);

const grants = [];  // the grant_type of each answer with tokens
const refresh = new Map();  // for each valid refresh token: its jti and its grant
let life;  // seconds for `expires_in` if it should differ from an access token's real lifetime

const provider = new Provider(settings.issuer, {
  clients: settings.clients,
  scopes: ['openid', 'offline_access', 'email'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  features: { revocation: { enabled: true }, devInteractions: { enabled: true } },
  cookies: { keys: ['tests'] },
  rotateRefreshToken: true,
  // If false, the claims of `email` are in the id_token too; OpenID Connect Core 5.4 has them only at userinfo.
  conformIdTokenClaims: !settings.tells_email,
  async findAccount(_, id) {
    return { accountId: id, async claims() { return { sub: id, email: id, email_verified: true }; } };
  },
});
provider.on('grant.success', (ctx) => grants.push(ctx.oidc.params.grant_type));
provider.on('refresh_token.saved', (token) => refresh.set(token.jti, token.grantId));
provider.on('refresh_token.consumed', (token) => refresh.delete(token.jti));
provider.on('refresh_token.destroyed', (token) => refresh.delete(token.jti));
provider.on('grant.revoked', (_, ended) => {
  for (const [jti, grant] of refresh) if (grant === ended) refresh.delete(jti);
});

provider.use(async (ctx, next) => {
  await next();
  if (life !== undefined && ctx.body?.expires_in !== undefined) ctx.body.expires_in = life;
});

const certificate = { cert: readFileSync(settings.certificate), key: readFileSync(settings.key) };
secure(certificate, provider.callback()).listen(settings.port, '127.0.0.1');

plain(async (request, response) => {
  let body = '';
  for await (const piece of request) body += piece;
  response.setHeader('Content-Type', 'application/json');
  if (request.url === '/introspect') {
    const token = await provider.AccessToken.find(new URLSearchParams(body).get('token') ?? '');
    response.end(JSON.stringify(token ? { active: true, username: token.accountId } : { active: false }));
    return;
  }
  if (request.url === '/stale') life = 0;
  if (request.url === '/fresh') life = undefined;
  response.end(JSON.stringify({ grants, refresh: refresh.size }));
}).listen(settings.plain_port, '127.0.0.1', () => console.log('ready'));
