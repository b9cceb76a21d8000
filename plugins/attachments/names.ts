// What a file name alone tells. Names are read as Windows reads them, which is where a click is dangerous: the last
// extension counts, and blanks, dots and `::$DATA` behind it do not.
import type { Kind } from './kinds.ts';

const words = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/));

const executables =
  words(`exe com scr pif cpl dll ocx sys drv msi msp mst msu msix msixbundle appx appxbundle appinstaller
  appref-ms application gadget lnk url scf website library-ms search-ms settingcontent-ms apk jar jnlp xll wll elf pkg
  deb rpm xbap ade adp app cnt diagcab grp plg prf themepack vxd`);
const scripts =
  words(`js jse mjs vbs vbe vb vba wsf wsh wsc ws sct hta bat cmd btm ps1 ps1xml ps2 ps2xml psc1 psc2 psm1 psd1
  pssc cdxml msh msh1xml msc reg inf ins isp chm hlp hpj shb shs sh bash csh ksh zsh py pyc pyw pyz pl rb php asp
  aspx ashx osd job mde mda mdz mam maq mar mas mat mau mav maw udl vsmacros xnk jnl`);
const images = words('iso img vhd vhdx vmdk wim udf dmg ima vfd');
const macros = words('docm dotm xlsm xltm xlam pptm potm ppam ppsm sldm xla ppa');
const documents =
  words(`pdf doc docx docm dot rtf odt txt text md csv tsv xls xlsx xlsm xlsb ods ppt pptx pps ppsx odp jpg jpeg
  png gif bmp tif tiff webp heic svg htm html xml json zip rar 7z gz mp3 mp4 avi mov wav eml msg vcf ics log`);

const direction = /[\u202a-\u202e\u2066-\u2069]/;
const classId = /\.\{[\da-f-]{36}\}$/i;

/** The name without folders, streams, and what Windows drops at the end. */
export function plainName(name: string): string {
  const base = name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1);
  return base
    .replace(/[\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, '')
    .toLowerCase()
    .replace(/(?::+\$data|[. ])+$/, '');
}

/** Lower case, without the dot; empty where there is none. */
export function extensionOf(name: string): string {
  const plain = plainName(name);
  const dot = plain.lastIndexOf('.');
  return dot < 0 ? '' : plain.slice(dot + 1).trim();
}

function doubles(name: string, extension: string): boolean {
  if (!executables.has(extension) && !scripts.has(extension) && !images.has(extension)) return false;
  const rest = plainName(name)
    .slice(0, -extension.length - 1)
    .trimEnd();
  const dot = rest.lastIndexOf('.');
  return /\s{4,}\.?$/.test(plainName(name).slice(0, -extension.length)) || documents.has(rest.slice(dot + 1).trim());
}

export function kindsByName(name: string): readonly Kind[] {
  const found: Kind[] = [];
  const extension = extensionOf(name);
  if (executables.has(extension) || classId.test(plainName(name))) found.push('executable');
  if (scripts.has(extension)) found.push('script');
  if (images.has(extension)) found.push('disk-image');
  if (macros.has(extension)) found.push('macro');
  if (doubles(name, extension)) found.push('double-extension');
  if (direction.test(name)) found.push('direction-override');
  return found;
}

/** For a trace, a note, a header: no control characters, nothing that turns the direction, not too long. */
export const shownName = (name: string): string =>
  name
    .replace(/[\x00-\x1f\x7f]/g, ' ')
    .replace(/[\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, '\ufffd')
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, 120) || 'unnamed';
