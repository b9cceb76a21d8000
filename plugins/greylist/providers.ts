// Domains of providers that are known to come back, from many networks each: to greylist them costs time and finds nothing.
// They are matched with what is proved only: a domain that SPF or DKIM vouches for, or the client's verified reverse name.

export const providers: readonly string[] = [
  // Mailbox providers.
  ...[
    'google.com',
    'gmail.com',
    'googlemail.com',
    'outlook.com',
    'hotmail.com',
    'live.com',
    'msn.com',
    'microsoft.com',
  ],
  ...['onmicrosoft.com', 'yahoo.com', 'yahoodns.net', 'aol.com', 'icloud.com', 'me.com', 'mac.com', 'apple.com'],
  ...['gmx.net', 'gmx.de', 'web.de', 'mail.com', 'kundenserver.de', 't-online.de', 'telekom.de', 'freenet.de'],
  ...['posteo.de', 'mailbox.org', 'proton.me', 'protonmail.com', 'protonmail.ch', 'tutanota.de', 'fastmail.com'],
  ...['messagingengine.com', 'zoho.com', 'zoho.eu', 'yandex.ru', 'yandex.net', 'mail.ru', 'orange.fr', 'free.fr'],
  ...['laposte.net', 'libero.it', 'seznam.cz', 'wp.pl', 'onet.pl', 'bluewin.ch', 'comcast.net', 'naver.com', 'qq.com'],
  // Senders for others.
  ...['amazonses.com', 'amazon.com', 'amazon.de', 'sendgrid.net', 'mailgun.org', 'mailgun.net', 'mandrillapp.com'],
  ...['mcsv.net', 'rsgsv.net', 'mcdlv.net', 'sparkpostmail.com', 'mailjet.com', 'postmarkapp.com', 'mtasv.net'],
  ...['exacttarget.com', 'salesforce.com', 'mimecast.com', 'pphosted.com', 'messagelabs.com', 'barracudanetworks.com'],
  // Services whose mail is waited for.
  ...['github.com', 'gitlab.com', 'atlassian.net', 'linkedin.com', 'facebookmail.com', 'paypal.com', 'ebay.com'],
];

/** Is one of the names one of the domains, or below it? */
export const isBelow = (names: readonly string[], domains: ReadonlySet<string>): string | undefined =>
  names.find(name => {
    const labels = name.toLowerCase().split('.');
    return labels.some((_, at) => domains.has(labels.slice(at).join('.')));
  });
