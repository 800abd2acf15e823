/** The list of expressions that a sheet draws, as text: `happy, sadly angry, AU1+AU2`. The same rules as faceexpr_core.sheet.parse_entries. */

import { parseUnits } from './vocabulary.js';

export const ALL = 'all';

/** What `all` stands for: the expressions that are no blends. */
export function basic(table) {
    return Object.keys(table.expressions).filter((name) => !table.expressions[name].parts.length);
}

/** The entries in their order, each once; what Python will refuse stands as it was written. */
export function parseEntries(text, table) {
    const found = new Set();
    for (const part of text.split(/[,;\n]/)) {
        const entry = part.trim().split(/\s+/).join(' ');
        const name = entry.replaceAll('_', ' ').toLowerCase();
        if (name === ALL) basic(table).forEach((one) => found.add(one));
        else if (entry) found.add(name in table.expressions ? name : (table.words[name] ?? entry)); // `contemptuous` is `contempt`
    }
    return [...found];
}

export function formatEntries(entries, table) {
    const written = entries.join(', ');
    return written === basic(table).join(', ') ? ALL : written;
}

/** What the head shows of an entry: a name, or action units. */
export function lookOf(entry, table) {
    const named = entry in table.expressions;
    return { expression: named ? entry : 'none', action_units: named ? '' : entry };
}

export function isReadable(entry, table) {
    return entry in table.expressions || Boolean(parseUnits(entry, table)?.size);
}

/** The largest of the intensities that are asked, with which the head shows an entry; 1 where they cannot be read. */
export function strongest(text, table) {
    const numbers = text.split(/[,;]/).filter((part) => part.trim()).map(Number);
    return numbers.length && numbers.every((one) => one >= 0 && one <= table.max_weight) ? Math.max(...numbers) : 1;
}
