// Names that providers give to their customers' lines: the address in some writing, or a word that says so. A machine that
// sends mail by intention has a name of its own.
import { addressBytes } from '../../core/plugin/index.ts';

const lineWord =
  /(?:^|[.-])(?:[a-z]*dsl[a-z]*|dial(?:in|up)?|dip|dyn(?:amic)?(?:ip)?|dhcp|pppoe?|pool|cable(?:modem)?|catv|broadband|wireless|customer|cust|fibre|ftth|res(?:idential)?)\d*(?=[.-]|\d|$)/;
const serverWord = /(?:^|[.-])(?:mail|smtp|mx|mta|relay|static)\d*(?=[.-]|$)/;

/** All four octets, forwards or backwards, with or without a separator, padded or in hexadecimal. */
function writesAddress(name: string, bytes: Uint8Array): boolean {
  const hex = Buffer.from(bytes).toString('hex');
  if (name.includes(hex)) return true;
  if (bytes.length !== 4) return false;
  const octets = [...bytes].map(String);
  const padded = octets.map(octet => octet.padStart(3, '0'));
  if (name.includes(padded.join(''))) return true;
  const orders = [octets, [...octets].reverse(), padded, [...padded].reverse()];
  return orders.some(order => new RegExp(`(?<!\\d)${order.join('[.x_-]')}(?!\\d)`).test(name));
}

export function isGenericName(name: string, address: string): boolean {
  const lower = name.toLowerCase();
  const bytes = addressBytes(address);
  if (bytes && writesAddress(lower, bytes)) return true;
  return lineWord.test(lower) && !serverWord.test(lower);
}
