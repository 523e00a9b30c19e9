/**
 * What people write: short business talk in many scripts, with emoji (ZWJ sequences, flags, skin tones),
 * right-to-left text, combining marks, line breaks, and now and then a very long one.
 */
import { mix } from './random.ts';

// biome-ignore format: one line per script would say no more
export const LOCALES = [
  'en', 'de', 'es', 'pt', 'fr', 'ar', 'he', 'hi', 'zh', 'ja', 'ru', 'th', 'tr', 'ko', 'el',
] as const;
export type Locale = (typeof LOCALES)[number];

const PHRASES: Record<Locale, readonly string[]> = {
  en: [
    'Morning! Is the delivery still on for Thursday?',
    'Sorry, I was driving. Call you in ten.',
    'Could you send me the invoice again? The link has expired.',
    'That works for us, go ahead.',
    'Who is on site today?',
    'The blue one, size 42, two boxes please.',
    "Haven't heard back from the landlord yet",
    'Thanks a lot, really appreciate it',
    'ok',
    'See https://example.com/offers/2291?ref=wa&x=%C3%A9 for the details',
    'I\'ll bring "the good" coffee \\o/',
  ],
  de: [
    'Guten Morgen, ist der Termin um 9:30 Uhr noch aktuell?',
    'Könnten Sie mir das Angebot bitte noch einmal schicken?',
    'Passt, dann bis Freitag!',
    'Die Rechnung über 1.249,90 € ist überwiesen.',
    'Straße gesperrt, ich komme etwa 20 Minuten später.',
    'Alles klar, danke schön',
    'Wer übernimmt heute die Schicht?',
    'Leider müssen wir verschieben, der Kunde ist krank.',
  ],
  es: [
    '¿A qué hora llega el técnico mañana?',
    'Ya hice la transferencia, ¿la ves?',
    '¡Muchísimas gracias!',
    'Te mando la ubicación ahora mismo',
    'El pedido llegó con una caja dañada.',
    'No se preocupe, lo solucionamos hoy.',
    'Señor Núñez, su presupuesto está listo.',
  ],
  pt: [
    'Bom dia! O orçamento já saiu?',
    'Amanhã não consigo, pode ser quinta?',
    'Perfeito, obrigadão!',
    'Segue o comprovante do pagamento.',
    'A reunião ficou para às 15h, tudo bem?',
    'Já avisei o pessoal da manutenção',
  ],
  fr: [
    'Bonjour, le colis est bien arrivé, merci !',
    'Est-ce que l’on peut décaler à jeudi ?',
    'Ça marche, à tout à l’heure',
    'J’ai réglé la facture n° 2026-118.',
    'Il manque deux pièces dans le carton…',
  ],
  ar: [
    'صباح الخير، هل وصل الطلب؟',
    'شكرًا جزيلًا على المتابعة',
    'الفاتورة رقم 4471 جاهزة، والمبلغ ٣٥٠ ريالًا',
    'سأتصل بك بعد قليل إن شاء الله',
    'نعم، الموعد يوم الأحد الساعة ٥ مساءً',
    'أرسل لي الموقع من فضلك (GPS)',
  ],
  he: [
    'בוקר טוב, המשלוח יצא?',
    'תודה רבה! נתראה ביום ג׳',
    'אפשר לקבל הצעת מחיר עד 17:00?',
    'אני בדרך, עוד 10 דק׳ אצלך',
    'שָׁלוֹם, הכול בסדר עם ההזמנה (order #88)',
  ],
  hi: [
    'नमस्ते, क्या आज सामान मिल जाएगा?',
    'जी हाँ, मैंने भुगतान कर दिया है',
    'कृपया पता दोबारा भेज दीजिए',
    'कल सुबह ११ बजे मिलते हैं',
    'बहुत-बहुत धन्यवाद',
  ],
  zh: [
    '早上好,货什么时候到?',
    '好的,没问题',
    '发票已经开好了,请查收。',
    '麻烦把合同再发我一份,谢谢!',
    '我们星期五下午三点开会,可以吗?',
    '𠮷野家旁边那家店见',
  ],
  ja: [
    'お世話になっております。見積書をお送りします。',
    '了解しました!',
    '明日の打ち合わせは10時からでよろしいでしょうか。',
    '荷物が届きました。ありがとうございます。',
    'すみません、少し遅れます💦',
  ],
  ru: [
    'Доброе утро! Заказ уже отправили?',
    'Да, всё получил, спасибо большое',
    'Перезвоню через полчаса',
    'Счёт № 118 оплачен сегодня.',
    'Можно перенести встречу на четверг?',
    'Подъезд закрыт, наберите код 25В',
  ],
  th: [
    'สวัสดีค่ะ สินค้าจะส่งเมื่อไหร่คะ',
    'โอนเงินเรียบร้อยแล้วครับ',
    'ขอบคุณมากนะคะ',
    'พรุ่งนี้บ่ายสองโมงสะดวกไหมครับ',
    'รบกวนส่งใบเสร็จอีกครั้งค่ะ',
  ],
  tr: [
    'Günaydın, sipariş yola çıktı mı?',
    'Ödemeyi yaptım, dekontu gönderiyorum.',
    'Çok teşekkürler, iyi çalışmalar',
    'Yarın İzmir’deyim, görüşelim',
    'Iğdır şubesi kapalı bugün',
  ],
  ko: [
    '안녕하세요, 배송은 언제 시작되나요?',
    '네, 확인했습니다. 감사합니다!',
    '내일 오후 2시에 뵙겠습니다',
    '영수증 다시 보내 주시겠어요?',
  ],
  el: [
    'Καλημέρα, έφτασε η παραγγελία;',
    'Ευχαριστώ πολύ, τα λέμε αύριο',
    'Στείλτε μου το τιμολόγιο, παρακαλώ.',
    'Είμαι καθ’ οδόν, 5 λεπτά',
  ],
};

/** ZWJ families, skin tones, flags, keycaps and one from outside the first emoji planes. */
// biome-ignore format: a list of single signs
const EMOJI = [
  '👍', '❤️', '😂', '🙏', '😮', '😢', '👍🏽', '🙏🏿', '👩‍👩‍👧‍👦', '👨🏻‍💻', '🏳️‍🌈', '❤️‍🔥', '🇩🇪', '🇧🇷', '1️⃣', '🫡', '🧑🏾‍🤝‍🧑🏻', '🏴󠁧󠁢󠁳󠁣󠁴󠁿', '🎉', '✅',
] as const;

/** Rare shapes that ordinary chats do hold: decomposed letters, bidi controls, stacked marks, odd spaces. */
const ODDITIES = [
  'Cafe\u0301 u\u0308ber alles',
  '\u202Bעברית and English\u202C mixed',
  'Z\u0335\u0321\u034a\u0353a\u0336\u0344\u0356l\u0337\u0301\u0348g\u0334\u0303\u0326o\u0338\u0306\u032b',
  'line one\nline two\r\n\tindented',
  'a\u00a0b\u2009c\u200bd\ufeffe',
  '\u{1F469}\u200D\u{1F680}'.repeat(12),
  "Robert'); DROP TABLE messages;--",
  '{"looks":"like json","n":9007199254740993}',
  '\\u0000 is not a NUL, nor is \\x00',
  '*bold* _italic_ ~struck~ ```code```',
  '\u2028paragraph\u2029separators\u0085',
];

/**
 * The text that belongs to a seed. Same seed and locale, same text; so a message needs to store a number only.
 * Of a thousand texts about one is several thousand characters long and three are oddities.
 */
export function phrase(seed: number, locale: Locale): string {
  const bank = PHRASES[locale];
  const shape = mix(seed, 7) % 1000;
  const first = bank[mix(seed, 11) % bank.length]!;
  if (shape < 1) return longText(seed, bank);
  if (shape < 4) return ODDITIES[mix(seed, 13) % ODDITIES.length]!;
  if (shape < 60) return emoji(seed);
  if (shape < 400) return first;
  const second = bank[mix(seed, 17) % bank.length]!;
  if (shape < 560) return `${first} ${emoji(seed)}`;
  if (shape < 600) return `${first}\n${second}`;
  if (shape < 700) return `${first} ${second} ${bank[mix(seed, 19) % bank.length]!}`;
  if (shape < 800) return `${first} (${mix(seed, 23) % 100000})`;
  return `${first} ${second}`;
}

/** One emoji, sometimes three. */
export function emoji(seed: number): string {
  const one = EMOJI[mix(seed, 29) % EMOJI.length]!;
  return mix(seed, 31) % 6 === 0 ? one + one + EMOJI[mix(seed, 37) % EMOJI.length]! : one;
}

function longText(seed: number, bank: readonly string[]): string {
  const parts: string[] = [];
  const count = 60 + (mix(seed, 41) % 120);
  for (let i = 0; i < count; i++) parts.push(bank[mix(seed, 43 + i) % bank.length]!);
  return parts.join(' ');
}
