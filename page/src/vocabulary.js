/** The words and what they move. `table` is vocabulary.json, which Python writes from faceexpr_core/expressions.py. */

import { say } from './words.js';

export const NONE = 'none';
const CODE = /^(?:AU)?\s*(?:([LR])\s*)?(\d+)$/i;

/** `AU1+R12:0.5` as a Map code -> strength (0..1), as faceexpr_core.expressions.parse_unit_strengths reads it; null where it refuses. */
export function parseUnits(text, table) {
    const units = new Map();
    for (const part of text.split(/[+,;]/).filter((part) => part.trim())) {
        const [written, number = '1', ...more] = part.split(':');
        const match = CODE.exec(written.trim());
        const code = match && (match[1] ?? '').toUpperCase() + Number(match[2]);
        const strength = number.trim() ? Number(number) : NaN;
        if (!(code in table.action_units) || more.length || !(strength > 0 && strength <= 1)) return null;
        if (units.has(code) && units.get(code) !== strength) return null;
        units.set(code, strength);
    }
    return units;
}

export function formatUnits(units) {
    const written = [...units].map(([code, strength]) => {
        const name = /^\d/.test(code) ? `AU${code}` : code;
        return strength === 1 ? name : `${name}:${strength}`;
    });
    return written.join('+');
}

/** Whether an action unit has a left and a right side of its own. */
export function isSided(number, table) {
    const shapes = (code) => Object.keys(table.action_units[code].blendshapes).join();
    return shapes(`L${number}`) !== shapes(`R${number}`);
}

/** A wink has one side from the start: its plain code means the left. */
export function hasBothSides(number) {
    return number !== 46;
}

/** The strength of an action unit on `L`, `R` or both sides (``: the larger). */
export function strengthOf(units, number, side = '') {
    const plain = units.get(String(number)) ?? 0;
    const both = hasBothSides(number) ? [plain, plain] : [plain, 0];
    const [left, right] = [Math.max(units.get(`L${number}`) ?? 0, both[0]), Math.max(units.get(`R${number}`) ?? 0, both[1])];
    return side === 'L' ? left : side === 'R' ? right : Math.max(left, right);
}

/** The units with one of them at another strength on `L`, `R` or both sides; equal sides are written as one. */
export function withStrength(units, number, side, strength) {
    const value = Math.round(Math.min(Math.max(strength, 0), 1) * 100) / 100;
    const left = side === 'R' ? strengthOf(units, number, 'L') : value;
    const right = side === 'L' ? strengthOf(units, number, 'R') : value;
    const next = new Map(units);
    const entries = left === right && hasBothSides(number) ? [[`${number}`, left]] : [[`L${number}`, left], [`R${number}`, right]];
    for (const code of [`${number}`, `L${number}`, `R${number}`]) {
        if (!entries.some(([kept, amount]) => kept === code && amount > 0)) next.delete(code);
    }
    for (const [code, amount] of entries) if (amount > 0) next.set(code, amount);
    return next;
}

/**
 * The weight of each blendshape that a node's values ask for. Expressions and action units add up as their conditionings do (faceexpr_core/text.py);
 * among the action units the strongest counts, as in faceexpr_core.expressions.Expression.blendshapes.
 */
export function blendshapesOf(values, table) {
    const total = {};
    const add = (shapes, strength) => {
        for (const [shape, weight] of Object.entries(shapes)) total[shape] = (total[shape] ?? 0) + strength * weight;
    };
    add(table.expressions[values.expression]?.blendshapes ?? {}, values.intensity);
    add(table.expressions[values.second_expression]?.blendshapes ?? {}, values.second_weight);
    const strongest = {};
    for (const [code, strength] of parseUnits(values.action_units, table) ?? []) {
        for (const [shape, weight] of Object.entries(table.action_units[code].blendshapes)) {
            strongest[shape] = Math.max(strongest[shape] ?? 0, strength * weight);
        }
    }
    add(strongest, values.intensity);
    for (const shape of Object.keys(total)) total[shape] = Math.min(total[shape], table.max_weight);
    return total;
}

/** `happy 1.00, surprised 0.50, lip corners pulled up on the right side 0.60`. */
export function describe(values, table) {
    const parts = [];
    if (values.expression !== NONE) parts.push([say(values.expression), values.intensity]);
    if (values.second_expression !== NONE && values.second_weight > 0) parts.push([say(values.second_expression), values.second_weight]);
    const units = parseUnits(values.action_units, table);
    for (const [code, strength] of units ?? []) parts.push([unitWords(code, table), strength * values.intensity]);
    const words = parts.map(([phrase, strength]) => `${phrase} ${strength.toFixed(2)}`);
    if (!units) words.push(say('action_units cannot be read: {0}', values.action_units));
    return words.join(', ') || say('no expression');
}

function unitWords(code, table) {
    const phrase = say(table.action_units[code.replace(/^[LR]/, '')].phrase);
    if (code.startsWith('L')) return say('{0} on the left side', phrase);
    return code.startsWith('R') ? say('{0} on the right side', phrase) : phrase;
}
