/** Expressions of one's own, kept in ComfyUI's user settings. */

import { app } from '../../../scripts/app.js';
import { element } from './dom.js';
import { describe } from './vocabulary.js';
import { say } from './words.js';

export const SETTING = 'FaceExpr.ExpressionPresets';

const stored = () => app.extensionManager.setting.get(SETTING) ?? [];

export function makePresets(values, table) {
    const name = element('input', { type: 'text', placeholder: say('name of this expression'), 'aria-label': say('name of this expression') });
    const list = element('ul', {});
    const told = element('p', { role: 'status' });
    const form = element('form', { onsubmit: save }, name, element('button', { type: 'submit' }, say('Keep')));

    async function write(presets) {
        await app.extensionManager.setting.set(SETTING, presets);
        show();
    }

    async function save(event) {
        event.preventDefault();
        const chosen = name.value.trim();
        if (!chosen) {
            told.textContent = say('Give it a name first.');
            return;
        }
        const there = stored().some((preset) => preset.name === chosen);
        if (there) {
            told.textContent = say('“{0}” is there already: choose another name, or delete it first.', chosen);
            return;
        }
        await write([...stored(), { name: chosen, values: values.read() }]);
        told.textContent = say('Kept “{0}”.', chosen);
        name.value = '';
    }

    function row(preset) {
        const words = describe(preset.values, table);
        const forget = () => write(stored().filter((other) => other.name !== preset.name));
        return element(
            'li',
            {},
            element('button', { title: words, onclick: () => values.change(preset.values) }, preset.name),
            element('span', {}, words),
            element('button', { 'aria-label': say('delete {0}', preset.name), onclick: forget }, '✕'),
        );
    }

    const show = () => list.replaceChildren(...stored().map(row));
    return { root: element('div', { class: 'fx-presets' }, form, told, list), show };
}
