// The room id that a typed name stands for: transliteration to the letters, digits and hyphens of PROTOCOL §1.
// Never drops a letter that it cannot transliterate: that would open another room than the one that was meant.

export const ROOM_ID = /^(?=.{3,64}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;

/**
 * Lower-case letters that no decomposition reduces to a-z, each followed by its spelling: Latin, Cyrillic (close to BGN/PCGN) and
 * Greek (ELOT 743, by letter). The first is matched before marks are stripped, since only its mark tells it apart.
 */
const MARKED = letterTable('йy');
const PLAIN = letterTable(`ßss øo æae œoe łl đd ðd þth ħh ıi ŋn ŧt ĸk əe ɛe ɔo ɓb ɗd ƙk ƴy
  аa бb вv гg ґg дd ђd еe єye жzh зz ѕdz иi іi јj кk лl љlj мm нn њnj оo пp рr сs тt ћc уu фf хkh цts чch џdz шsh щshch ъ ыy ь эe юyu яya ѣe ѳf ѵi
  αa βv γg δd εe ζz ηi θth ιi κk λl μm νn ξx οo πp ρr σs ςs τt υy φf χch ψps ωo`);

/** @param {string} text @returns {Map<string, string>} */
function letterTable(text) {
  return new Map(text.split(/\s+/).map((entry) => [entry[0], entry.slice(1)]));
}

/** @param {string} text @param {Map<string, string>} letters */
function spell(text, letters) {
  return Array.from(text, (letter) => letters.get(letter) ?? letter).join('');
}

/**
 * @param {string} text what a person typed
 * @returns {{ id: string, problem: null } | { id: null, problem: 'length' | 'script' }} `script`: it has letters or digits that are not
 *   transliterated here
 */
export function roomName(text) {
  const lower = text.toLowerCase().normalize('NFC').replace(/[ʻʼ]/g, ' ');
  const plain = spell(lower, MARKED).normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();
  // Ukrainian и is not the Russian one.
  const latin = spell((/[іїєґ]/.test(lower) ? plain.replaceAll('и', 'y') : plain).replaceAll('ου', 'ou'), PLAIN);
  if (/[^a-z0-9\P{L}]|[^0-9\P{N}]/u.test(latin)) return { id: null, problem: 'script' };
  const id = latin.replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '');
  return ROOM_ID.test(id) ? { id, problem: null } : { id: null, problem: 'length' };
}
