/**
 * Valence and arousal, -1..1, as an expression and a second one. The plane is Russell's circumplex (1980); where the vocabulary's words stand
 * on it is ours. `calm` is no word of the vocabulary: towards it the face stays neutral.
 */

import { NONE } from './vocabulary.js';

const DEGREES = { happy: 20, surprised: 75, fearful: 105, angry: 135, disgusted: 165, sad: 210, calm: 300 };
export const ANCHORS = Object.entries(DEGREES).map(([name, degrees]) => {
    const angle = (degrees * Math.PI) / 180;
    return { name, valence: Math.cos(angle), arousal: Math.sin(angle) };
});

const LEAST = 0.05; // weaker ones are left out

/** The values that a point asks for: the two words beside it, so that their arrows add up to it. */
export function valuesAt(valence, arousal) {
    for (const [i, one] of ANCHORS.entries()) {
        const other = ANCHORS[(i + 1) % ANCHORS.length];
        const area = one.valence * other.arousal - other.valence * one.arousal;
        const a = (valence * other.arousal - other.valence * arousal) / area;
        const b = (one.valence * arousal - valence * one.arousal) / area;
        if (a < -1e-9 || b < -1e-9) continue;
        const parts = [[one.name, a], [other.name, b]]
            .map(([name, strength]) => [name, Math.round(100 * Math.min(strength, 1.5)) / 100])
            .filter(([name, strength]) => name !== 'calm' && strength >= LEAST)
            .sort(([, a], [, b]) => b - a);
        const [[expression, intensity] = ['neutral', 1], [second, weight] = [NONE, 0.5]] = parts;
        return { expression, intensity, second_expression: second, second_weight: weight };
    }
    return { expression: 'neutral', intensity: 1, second_expression: NONE, second_weight: 0.5 };
}

/** Where the values stand, or null if a word of theirs has no place on the plane. */
export function placeOf(values) {
    const place = { valence: 0, arousal: 0 };
    for (const [name, strength] of [[values.expression, values.intensity], [values.second_expression, values.second_weight]]) {
        if (name === NONE || name === 'neutral') continue;
        const anchor = ANCHORS.find((anchor) => anchor.name === name);
        if (!anchor) return null;
        place.valence += strength * anchor.valence;
        place.arousal += strength * anchor.arousal;
    }
    return place;
}
