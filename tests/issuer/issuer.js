// A real OIDC issuer for the tests. Its clients, as JSON, are its only argument: for each id what its tokens
// say beside the usual. "rotate" on its input gives it new keys; it says "ready ISSUER" and "rotated".
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";

import Provider from "oidc-provider";

const claims = JSON.parse(process.argv[2]);

function newKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), use: "sig", alg: "RS256", kid: randomUUID() };
}

function newProvider(issuer) {
  return new Provider(issuer, {
    clients: Object.keys(claims).map((id) => ({
      client_id: id,
      client_secret: `secret of ${id}`,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    })),
    jwks: { keys: [newKey()] },
    extraTokenClaims: (_context, token) => claims[token.clientId],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => "urn:ims",
        getResourceServerInfo: (_context, resource) => ({
          scope: "",
          audience: resource,
          accessTokenTTL: 600,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
  });
}

let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  answer = newProvider(issuer).callback();
  console.log(`ready ${issuer}`);
  const lines = createInterface({ input: process.stdin });
  lines.on("line", () => {
    answer = newProvider(issuer).callback();
    console.log("rotated");
  });
  // Nobody is left to be answered when the tests have gone.
  lines.on("close", () => process.exit(0));
});
