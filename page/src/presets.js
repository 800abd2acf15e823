/** Expressions of one's own, kept in ComfyUI's user settings. */

import { api } from '../../../scripts/api.js';
import { app } from '../../../scripts/app.js';
import { element, replaceRows } from './dom.js';
import { describe } from './vocabulary.js';
import { say } from './words.js';

export const SETTING = 'FaceExpr.ExpressionPresets';

const CHANGED = 'fx-presets-changed';

const stored = () => app.extensionManager.setting.get(SETTING) ?? [];
let writing = Promise.resolve(); // one change after the other

/** Change the list as it is now: this page's copy lacks what was kept in another tab of the browser. */
function write(change) {
    const written = writing.then(async () => {
        await app.extensionManager.setting.set(SETTING, change((await api.getSetting(SETTING)) ?? []));
        // told by the document, so that nothing holds the editors of nodes that are gone
        for (const panel of document.querySelectorAll('.fx-presets')) panel.dispatchEvent(new Event(CHANGED));
    });
    writing = written.catch(() => {});
    return written;
}

export function makePresets(values, table, note) {
    const name = element('input', { type: 'text', placeholder: say('name of this expression'), 'aria-label': say('name of this expression') });
    const list = element('ul', {});
    const told = element('p', { role: 'status' });
    const form = element('form', { onsubmit: save }, name, element('button', { type: 'submit' }, say('Keep')));

    async function save(event) {
        event.preventDefault();
        const chosen = name.value.trim();
        if (!chosen) {
            told.textContent = say('Give it a name first.');
            return;
        }
        const kept = { name: chosen, values: values.read() };
        let there = false;
        await write((presets) => {
            there = presets.some((preset) => preset.name === chosen);
            return there ? presets : [...presets, kept];
        });
        if (there) {
            told.textContent = say('“{0}” is there already: choose another name, or delete it first.', chosen);
            return;
        }
        told.textContent = say('Kept “{0}”.', chosen);
        name.value = '';
    }

    function row(preset) {
        const words = describe(preset.values, table);
        const canSet = values.settable(preset.values).length > 0;
        const forget = () => write((presets) => presets.filter((other) => other.name !== preset.name));
        return element(
            'li',
            {},
            element('button', { title: words, disabled: !canSet, onclick: () => values.change(preset.values), ...note.explains }, preset.name),
            element('span', {}, words),
            element('button', { 'aria-label': say('delete {0}', preset.name), onclick: forget }, '✕'),
        );
    }

    const show = () => replaceRows(list, stored().map(row), () => name);
    return { root: element('div', { class: 'fx-presets', [`on${CHANGED}`]: show }, form, told, list), show, opened: show };
}
