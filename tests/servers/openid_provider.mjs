// node's oidc-provider (certified by the OpenID Foundation), as strict as it comes; see openid_provider.py.
//
// People sign in as whoever they say, without a password. Beside it, without TLS and for the tests alone: what a mail
// server asks (RFC 7662 without its authentication), and what a test changes and counts.

import { readFileSync } from 'node:fs';
import { createServer as plain } from 'node:http';
import { createServer as secure } from 'node:https';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { Provider } = await import(settings.module);

const grants = [];  // of each answer that held tokens: its grant_type
const refresh = new Map();  // of each refresh token that can be used: its jti and its grant
let life;  // seconds that an access token is said to live, where it is not as long as it does

const provider = new Provider(settings.issuer, {
  clients: settings.clients,
  scopes: ['openid', 'offline_access', 'email'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  features: { revocation: { enabled: true }, devInteractions: { enabled: true } },
  cookies: { keys: ['tests'] },
  rotateRefreshToken: true,
  // The claims of `email` in the id_token, too; OpenID Connect Core 5.4 has them at the userinfo endpoint alone.
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
