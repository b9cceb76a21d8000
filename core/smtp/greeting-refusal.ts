import type { Reply } from '../mail/reply.ts';

/** RFC 5321 §4.3.2 and RFC 7504 §4: in place of the greeting only 421, 521 and 554 may come. */
export function greetingRefusal(reply: Reply): Reply {
  if (reply.code >= 500) return reply.code === 521 ? reply : ({ ...reply, code: 554 } as Reply<5>);
  return { ...reply, code: 421 } as Reply<4>;
}
