/** Single action units: sliders grouped by region, left and right apart where the vocabulary has it. */

import { element, slider } from './dom.js';
import { formatUnits, hasBothSides, isSided, parseUnits, strengthOf, withStrength } from './vocabulary.js';
import { say } from './words.js';

/** `note`: what explains why they rest, where they may. */
export function makeUnits(values, table, note) {
    const sideWords = { '': '', L: say(', left'), R: say(', right') };
    const rows = [];
    const seen = new Set();
    const groups = Object.entries(table.regions).map(([region, numbers]) => {
        const own = numbers.filter((number) => !seen.has(number));
        own.forEach((number) => seen.add(number));
        return element('fieldset', {}, element('legend', {}, say(region)), ...own.flatMap((number) => rowsOf(number)));
    });
    const apart = element('input', { type: 'checkbox', onchange: () => show(values.read()) });

    function rowsOf(number) {
        const sides = !isSided(number, table) ? [''] : hasBothSides(number) ? ['', 'L', 'R'] : ['L', 'R'];
        return sides.map((side) => {
            const made = slider({
                label: `${number} ${say(table.action_units[number].phrase)}${sideWords[side]}`,
                max: 1,
                move: (strength) => {
                    const units = parseUnits(values.read().action_units, table) ?? new Map();
                    values.set({ action_units: formatUnits(withStrength(units, number, side, strength)) });
                },
                done: () => values.rest(),
            });
            rows.push({ ...made, number, side, alone: sides.length < 3 });
            return made.root;
        });
    }

    const show = (now) => {
        const units = parseUnits(now.action_units, table) ?? new Map();
        const disabled = values.isLinked('action_units');
        const held = rows.find(({ input, side }) => side && input === document.activeElement)?.number; // not to go from under the hand
        for (const row of rows) {
            const uneven = strengthOf(units, row.number, 'L') !== strengthOf(units, row.number, 'R');
            row.root.hidden = !row.alone && (row.side === '') === (apart.checked || uneven || held === row.number);
            row.set(strengthOf(units, row.number, row.side), disabled);
        }
    };
    const group = { class: 'fx-units', role: 'group', 'aria-label': say('Muscles'), ...note?.explains };
    return {
        root: element('div', group, element('label', {}, apart, ` ${say('left and right apart (the person’s own)')}`), ...groups),
        show,
    };
}
