/**
 * The nodes' own words (locales/) on pages that lose them: until the end of 2025 ComfyUI's page forgot what packs bring as soon as it loaded a
 * language (Comfy-Org/ComfyUI_frontend, pull request 7214). On newer ones this sets what is there already.
 */

import { api } from '../../../scripts/api.js';
import { app } from '../../../scripts/app.js';

let books = {}; // language -> node -> words, as nodeDefs.json has them

const wordsOf = (name) => books[app.extensionManager?.setting.get('Comfy.Locale')]?.nodeDefs?.[name];
const plain = (message) => message.replace(/\{'(.)'\}/g, '$1'); // what vue-i18n makes of it

/** Before nodes are registered. Without the books the page stays in English. */
export async function loadNodeWords() {
    const answer = await api.fetchApi('/i18n').catch(() => undefined);
    if (answer?.ok) books = await answer.json();
}

/** Name, description and tooltips of a node's definition. */
export function translateDefinition(definition) {
    const words = wordsOf(definition.name);
    if (!words) return;
    definition.display_name = plain(words.display_name);
    definition.description = plain(words.description);
    for (const [name, [, options]] of Object.values(definition.input ?? {}).flatMap((inputs) => Object.entries(inputs))) {
        if (options?.tooltip && words.inputs?.[name]) options.tooltip = plain(words.inputs[name].tooltip);
    }
    definition.output_tooltips = definition.output_tooltips?.map((tooltip, number) => plain(words.outputs?.[number]?.tooltip ?? tooltip ?? ''));
}

/** Labels of a node just made; those that its user gave come later. */
export function translateSlots(node, name) {
    const words = wordsOf(name);
    if (!words) return;
    for (const widget of node.widgets ?? []) widget.label = words.inputs?.[widget.name]?.name ?? widget.label;
    for (const slot of node.inputs ?? []) slot.localized_name = words.inputs?.[slot.name]?.name ?? slot.localized_name;
    for (const [number, slot] of (node.outputs ?? []).entries()) slot.localized_name = words.outputs?.[number]?.name ?? slot.localized_name;
}
