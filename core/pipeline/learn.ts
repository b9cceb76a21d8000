// A person judged a message: every plugin that can learn is told, one after the other, under its own deadline. One that
// fails does not keep the others from learning.
import type { Clock } from '../lib/clock.ts';
import { raceSignal, startDeadline } from '../lib/deadline.ts';
import type { Message } from '../mail/message.ts';
import type { PluginInstance } from '../plugin/contract.ts';
import type { Lesson } from './chain.ts';
import type { ChainEntry } from './loaded-entry.ts';

/** An entry and what its `setup` gave. */
interface Pupil {
  readonly entry: ChainEntry;
  readonly instance: PluginInstance;
}

/** Recipients whose learned data are changed by one message. */
const maxRecipients = 100;

async function teach(
  { instance, entry }: Pupil,
  clock: Clock,
  message: Message,
  as: 'spam' | 'ham',
  recipients: readonly string[],
): Promise<void> {
  for (const recipient of recipients.slice(0, maxRecipients)) {
    const deadline = startDeadline(clock, entry.timeoutMs);
    try {
      await raceSignal(Promise.resolve(instance.learn?.(message, as, recipient, deadline.signal)), deadline.signal);
    } finally {
      deadline.done();
    }
  }
}

export async function learnFrom(
  pupils: readonly Pupil[],
  clock: Clock,
  message: Message,
  as: 'spam' | 'ham',
  recipients: readonly string[],
): Promise<readonly Lesson[]> {
  const lessons: Lesson[] = [];
  for (const pupil of pupils) {
    if (!pupil.instance.learn) continue;
    try {
      await teach(pupil, clock, message, as, recipients);
      lessons.push({ plugin: pupil.entry.name });
    } catch (error) {
      lessons.push({ plugin: pupil.entry.name, error: error instanceof Error ? error.message : String(error) });
    }
  }
  return lessons;
}
