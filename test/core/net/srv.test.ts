import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { createDns } from '../../../core/net/dns.ts';
import { lookUpSrv, srvOrder } from '../../../core/net/srv.ts';
import { startDnsServer } from '../../../core/testing/dns-server.ts';

const record = (target: string, priority: number, weight: number) => ({ target, priority, weight, port: 389 });

t.test('RFC 2782: priority first, then chance by weight', async t => {
  const records = [record('c', 20, 0), record('a', 10, 1), record('b', 10, 3), record('z', 10, 0)];
  const first = new Map<string, number>();
  let turn = 0;
  // Evenly spread draws in place of chance: shares come out as the weights say.
  for (let n = 0; n < 1_000; n++) {
    const order = srvOrder(records, () => ((turn++ * 7919) % 1_000) / 1_000);
    if (order.length !== 4 || order[3]?.target !== 'c') t.fail('the higher priority number is not last');
    const name = order[0]?.target ?? '';
    first.set(name, (first.get(name) ?? 0) + 1);
  }
  // The draw is from 0 to 4: 0 → z, 1 → a, 2 to 4 → b.
  for (const [name, share] of [
    ['z', 200],
    ['a', 200],
    ['b', 600],
  ] as const)
    t.ok(Math.abs((first.get(name) ?? 0) - share) <= 60, `${name}: ${first.get(name)}`);
  t.same(
    srvOrder([record('x', 0, 0), record('y', 0, 0)], () => 0.999)
      .map(each => each.target)
      .sort(),
    ['x', 'y'],
  );
});

t.test('records, none, a service that is decidedly absent, a name server that fails', async t => {
  const server = await startDnsServer({
    '_ldap._tcp.corp.test': { SRV: [record('DC1.corp.test', 0, 100)] },
    '_ldap._tcp.absent.test': { SRV: [record('.', 0, 0)] },
    '_ldap._tcp.ill.test': { fault: 'servfail' },
  });
  t.teardown(() => server.close());
  const dns = createDns({ clock: systemClock, servers: [server.address] });
  t.teardown(() => dns.close());
  const ask = (name: string) => lookUpSrv(dns, name, () => 0);
  t.match(await ask('_ldap._tcp.corp.test'), { kind: 'hosts', hosts: [{ target: 'dc1.corp.test', port: 389 }] });
  t.match(await ask('_ldap._tcp.none.test'), { kind: 'none' });
  t.match(await ask('_ldap._tcp.absent.test'), { kind: 'none' });
  t.match(await ask('_ldap._tcp.ill.test'), { kind: 'tempfail', why: /SERVFAIL/ });
});
