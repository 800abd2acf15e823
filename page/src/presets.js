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
        const wanted = change((await api.getSetting(SETTING)) ?? []);
        await app.extensionManager.setting.set(SETTING, wanted);
        // the page's own call is content with a server that answers that it could not
        if (JSON.stringify(await api.getSetting(SETTING)) !== JSON.stringify(wanted)) throw new Error(say('it is not there when read again'));
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

    /** Whether the change was written; where it was not, the server being gone or its disk full, that is told. */
    async function tried(change) {
        try {
            await write(change);
            return true;
        } catch (reason) {
            told.textContent = say('ComfyUI could not keep that: {0}', reason?.message ?? reason);
            return false;
        }
    }

    async function save(event) {
        event.preventDefault();
        const chosen = name.value.trim();
        if (!chosen) {
            told.textContent = say('Give it a name first.');
            return;
        }
        const kept = { name: chosen, values: values.read() };
        let there = false;
        const done = await tried((presets) => {
            there = presets.some((preset) => preset.name === chosen);
            return there ? presets : [...presets, kept];
        });
        if (!done) return;
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
        const forget = () => tried((presets) => presets.filter((other) => other.name !== preset.name));
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
