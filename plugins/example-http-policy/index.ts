// Asks an HTTP server about each recipient. Shows what I/O in a hook takes: the signal, a bounded answer, a checked one, and
// connections that are closed in the end. Whatever goes wrong throws, and the entry's `onError` decides.
import http from 'node:http';
import { defer, definePlugin, pass, type Reply, reject, secret, z } from '../../core/plugin/index.ts';

const maxAnswerBytes = 16 * 1024;
const refused: Reply<5> = { code: 550, enhanced: '5.7.1', text: 'Recipient refused by policy' };
const later: Reply<4> = { code: 451, enhanced: '4.7.1', text: 'Recipient deferred by policy, please try again later' };

/** What the server may answer; anything else is a failure and no verdict. */
const answerSchema = z.object({
  action: z.enum(['continue', 'reject', 'defer']),
  reason: z.string().max(500).default('policy server'),
});

async function readAll(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxAnswerBytes) throw new Error('Policy server answers without end');
    chunks.push(chunk);
  }
  if (response.statusCode !== 200) throw new Error(`Policy server answered ${response.statusCode}`);
  return Buffer.concat(chunks).toString();
}

function post(url: string, options: http.RequestOptions, body: string): Promise<string> {
  return new Promise((resolve, fail) => {
    const request = http.request(url, { ...options, method: 'POST' }, response => {
      readAll(response).then(resolve, (error: Error) => {
        request.destroy();
        fail(error);
      });
    });
    request.once('error', fail);
    request.end(body);
  });
}

export const exampleHttpPolicy = definePlugin({
  name: 'example-http-policy',
  doc: 'Example for plugin authors: asks an HTTP server about each recipient.',
  options: z.strictObject({
    url: z
      .string()
      .regex(/^http:\/\//, "Expected 'http://host/path'")
      .default('http://127.0.0.1:8080/policy')
      .describe('Where the question is posted, as JSON.'),
    token: secret().optional().describe('Sent as `Authorization: Bearer`.'),
  }),
  setup(options, host) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 50 });
    const authorization = options.token ? { authorization: `Bearer ${host.readSecret(options.token)}` } : {};
    const headers = { 'content-type': 'application/json', ...authorization };
    return {
      async rcpt(at, to) {
        const question = JSON.stringify({
          client: at.session.remote.address,
          helo: at.helo,
          login: at.identity?.name ?? null,
          sender: at.envelope.sender?.text ?? null,
          recipient: to.address.text,
        });
        // The signal ends the request when the deadline passed or the client is gone.
        const text = await post(options.url, { agent, headers, signal: at.signal }, question);
        const { action, reason } = answerSchema.parse(JSON.parse(text));
        at.evidence({ action });
        if (action === 'reject') return reject(refused, reason);
        return action === 'defer' ? defer(later, reason) : pass;
      },
      close: async () => agent.destroy(),
    };
  },
});
