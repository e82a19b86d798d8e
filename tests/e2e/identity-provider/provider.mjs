// An OpenID Provider for tests: everybody whose password is "NAME's" is who they say. usage: node provider.mjs PORT CALLBACK
import Provider from 'oidc-provider';

const [port, callback] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const audience = 'urn:nacre';

const claimsOf = (name) => ({
  sub: `id-of-${name}`, name, email: `${name}@corp.test`, groups: name.startsWith('guest') ? ['guests'] : ['staff'],
});
const api = { scope: 'openid profile', audience, accessTokenFormat: 'jwt', accessTokenTTL: 300 };
const short = { ...api, accessTokenTTL: 1 };
const other = { ...api, audience: 'urn:other' };
const resources = { [audience]: api, 'urn:short': { ...short, audience }, 'urn:other': other };

const provider = new Provider(issuer, {
  clients: [
    { client_id: 'nacre', client_secret: 'a secret of nacre', redirect_uris: [callback], grant_types: ['authorization_code'] },
    { client_id: 'cli', client_secret: 'a secret of the cli', redirect_uris: [], response_types: [],
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'client_credentials', 'password'] },
  ],
  claims: { openid: ['sub'], profile: ['name', 'email', 'groups'] },
  conformIdTokenClaims: false,
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx) => (ctx.oidc.client.clientId === 'cli' ? audience : undefined),
      getResourceServerInfo: (ctx, resource) => resources[resource],
      useGrantedResource: () => true,
    },
  },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ ...claimsOf(id), sub: id }) }),
  // A client of its own kind says who it is as a person does: the mapping decides what it may.
  extraTokenClaims: (ctx, token) => {
    if (token.accountId) { const { sub, ...more } = claimsOf(token.accountId); return more; }
    return { name: token.clientId, groups: ['staff'] };
  },
  cookies: { keys: ['only for tests'] },
  ttl: { DeviceCode: 120, Interaction: 120, Session: 120, Grant: 120, AccessToken: 300, IdToken: 300, ClientCredentials: 300 },
});

// The password grant, which keystoneauth has a plugin for and the standard advises against.
provider.registerGrantType('password', async (ctx) => {
  const { client, params } = ctx.oidc;
  if (params.password !== `${params.username}'s`) {
    ctx.status = 400;
    ctx.body = { error: 'invalid_grant' };
    return;
  }
  const grant = new provider.Grant({ accountId: params.username, clientId: client.clientId });
  const resource = params.resource ?? audience;
  grant.addResourceScope(resource, 'openid profile');
  const token = new provider.AccessToken({
    accountId: params.username, client, grantId: await grant.save(), gty: 'password', scope: 'openid profile',
    expiresIn: resources[resource].accessTokenTTL,
  });
  token.resourceServer = new provider.ResourceServer(resource, resources[resource]);
  ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration };
}, ['username', 'password', 'scope', 'resource']);

provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
