// node policy-server.mjs PORT: refuses recipients `refused@…`, defers `later@…`, takes the rest.
import { createServer } from 'node:http';

const actions = { refused: 'reject', later: 'defer' };
const server = createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  const { recipient } = JSON.parse(body);
  const action = actions[recipient.split('@')[0]] ?? 'continue';
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ action, reason: `told so about ${recipient}` }));
});
server.listen(Number(process.argv[2] ?? 8080), '127.0.0.1', () => console.log(`port ${server.address().port}`));
