/**
 * Who people are: names, companies, phone numbers and privacy ids, all derived from a seed and an index.
 * Phone numbers and LIDs are one-to-one with the index, so no two people of a connection share one.
 */
import { LOCALES, type Locale } from './phrases.ts';
import { mix } from './random.ts';

/** Given names, family names, and the country's calling code. */
const NAMES: Record<Locale, readonly [readonly string[], readonly string[], string]> = {
  en: [
    ['Alice', 'Oliver', 'Grace', 'Noah', 'Zoë', 'Séamus'],
    ["O'Brien", 'Smith', 'Taylor-Ng', 'Walker'],
    '44',
  ],
  de: [['Jürgen', 'Anna', 'Lukas', 'Käthe', 'Björn'], ['Müller', 'Weiß', 'von der Heide', 'Schäfer'], '49'],
  es: [['José', 'María', 'Íñigo', 'Lucía'], ['Núñez', 'García Márquez', 'Ibáñez', 'Soler'], '34'],
  pt: [['João', 'Conceição', 'Tiago', 'Luísa'], ['da Silva', 'Araújo', 'Gonçalves', 'Leão'], '55'],
  fr: [['François', 'Chloé', 'Hervé', 'Maëlys'], ['Lefèvre', 'Dupont', "d'Alembert", 'Noël'], '33'],
  ar: [['محمد', 'فاطمة', 'يوسف', 'ليلى'], ['الحسن', 'العلي', 'منصور'], '966'],
  he: [['נועה', 'דוד', 'יעל', 'משה'], ['כהן', 'לוי', 'בן־דוד'], '972'],
  hi: [['राहुल', 'प्रिया', 'अमित', 'सुनीता'], ['शर्मा', 'पटेल', 'गुप्ता'], '91'],
  zh: [['伟', '芳', '秀英', '建国'], ['王', '李', '欧阳'], '86'],
  ja: [['さくら', '太郎', '美咲', '健'], ['佐藤', '鈴木', '髙橋'], '81'],
  ru: [['Алексей', 'Наталья', 'Пётр', 'Ольга'], ['Иванов', 'Соловьёва', 'Щукин'], '7'],
  th: [['สมชาย', 'มาลี', 'ณัฐ'], ['ใจดี', 'ศรีสุข', 'วงศ์ใหญ่'], '66'],
  tr: [['İbrahim', 'Ayşe', 'Çağla', 'Işık'], ['Yılmaz', 'Öztürk', 'Şahin'], '90'],
  ko: [['민준', '서연', '지후'], ['김', '이', '박'], '82'],
  el: [['Γιώργος', 'Ελένη', 'Νίκος'], ['Παπαδόπουλος', 'Οικονόμου'], '30'],
};

// biome-ignore format: a list
const COMPANIES = [
  'Nordwind Logistik GmbH', 'Café Ñandú S.L.', 'Acme & Sons, Ltd.', '東京商事株式会社', 'شركة النور', 'ООО «Ромашка»',
  'Padaria São João', 'Big "Quotes" Inc.', 'Blåbær AS', 'Müller Söhne KG',
] as const;

// biome-ignore format: a list
const GROUPS = [
  'Team Süd', 'Warehouse night shift', 'Equipo de ventas 🚚', 'فريق المبيعات', '營運群組', 'Planung 2026', 'Клиенты VIP',
  'צוות תמיכה', 'Obra Rua das Flores', 'ลูกค้าประจำ', '👩‍💻 Devs & Ops', 'Vorstand (vertraulich)',
] as const;

/** What is fixed about a person for good; names that can change are versions of it. */
export interface Identity {
  readonly locale: Locale;
  readonly first: string;
  readonly last: string;
  readonly company: string;
  /** Digits with country code, without `+`. */
  readonly phone: string;
  /** The digits of the privacy id: fifteen, and no phone number. */
  readonly lid: string;
}

/** The identity with this index among the people of a connection (`salt`). */
export function identity(index: number, salt: number): Identity {
  const seed = mix(index, salt);
  const locale = LOCALES[mix(seed, 3) % LOCALES.length]!;
  const [firsts, lasts, country] = NAMES[locale];
  return {
    locale,
    first: firsts[mix(seed, 5) % firsts.length]!,
    last: lasts[mix(seed, 7) % lasts.length]!,
    company: COMPANIES[mix(seed, 9) % COMPANIES.length]!,
    phone: country + String(100_000_000 + spread(index, salt, 900_000_000)),
    lid: `1${String(spread(index, (salt ^ 0x5bd1e995) >>> 0, 10_000_000_000)).padStart(10, '0')}${String(1000 + (salt % 9000))}`,
  };
}

/** What a person calls themselves on WhatsApp; each `version` is another name. */
export function pushName(who: Identity, index: number, version: number): string {
  const seed = mix(index, 101 + version);
  switch (seed % 5) {
    case 0:
      return `${who.first} ${who.last}`;
    case 1:
      return who.first.toLowerCase();
    case 2:
      return `~${who.first} 🌸`;
    case 3:
      return `${who.first} | ${who.company}`;
    default:
      return version === 0 ? who.first : `${who.first} ${version}`;
  }
}

export function groupName(seed: number): string {
  return `${GROUPS[mix(seed, 3) % GROUPS.length]!}${seed % 3 === 0 ? ` ${seed % 90}` : ''}`;
}

/** index → [0, range), one-to-one as long as index < range: the factor is coprime to powers of ten and to 9. */
function spread(index: number, salt: number, range: number): number {
  return (index * 618_397 + (salt % range)) % range;
}
