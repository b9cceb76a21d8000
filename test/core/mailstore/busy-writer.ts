// Delivers and appends as fast as it can and tells its parent of each message that was promised, until it is killed.
import path from 'node:path';
import { createMaildirStore } from '../../../core/mailstore/maildir-store.ts';
import { mail, rope } from './store-harness.ts';

const [base = '', round = ''] = process.argv.slice(2);
const store = createMaildirStore({ maildirOf: name => path.join(base, name), host: 'mx.test' });
const user = await store.user('alice');
const box = await user.open('INBOX');

async function deliver(worker: number): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    const subject = `d-${round}-${worker}-${i}`;
    const [result] = await store.deliver(rope(mail(subject)), [{ user: 'alice' }]);
    if (result?.kind === 'stored') process.send?.([subject, 0]);
  }
}

async function append(worker: number): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    const subject = `a-${round}-${worker}-${i}`;
    const bytes = mail(subject);
    const uid = await box.append(rope(bytes), bytes.length, {});
    process.send?.([subject, uid]);
    await box.store([uid], { mode: 'add', flags: 1 + (i % 3), keywords: [`k${i % 5}`] });
  }
}

await Promise.all([deliver(0), deliver(1), append(0), append(1)]);
