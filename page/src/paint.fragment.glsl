// The head's colours, painted by place.
precision highp float;

varying vec3 vNormal;
varying vec3 vPlace; // metres in the resting mesh: x to the person's left, -y to the front, z up; eyeballs: direction from their centre
varying vec4 vMasks; // lips, inside of the mouth, eyelids, hair
varying float vMaterial; // 0 skin, 1 eye, 2 teeth, 3 tongue, 4 lashes

const vec3 LIGHT = vec3(0.38, 0.52, 0.76);
const vec3 SKIN = vec3(0.66, 0.38, 0.25);
const vec3 LIP = vec3(0.53, 0.18, 0.15);
const vec3 HAIR = vec3(0.055, 0.026, 0.016);
const vec3 BROW = vec3(0.045, 0.018, 0.009);
const vec3 IRIS = vec3(0.06, 0.16, 0.18);

float hash(vec2 p) {
    return fract(sin(dot(p, vec2(127.1, 311.7))) * 43758.5453);
}

float noise(vec2 p) {
    vec2 i = floor(p);
    vec2 f = smoothstep(0.0, 1.0, p - i);
    return mix(mix(hash(i), hash(i + vec2(1, 0)), f.x), mix(hash(i + vec2(0, 1)), hash(i + vec2(1, 1)), f.x), f.y);
}

float brow(float x, float z) {
    float t = (x - 0.0115) / 0.039;
    float middle = 0.7435 + 0.0048 * sin(3.14159 * pow(clamp(t, 0.0, 1.0), 1.3)) - 0.0015 * t;
    float halfHeight = 0.0031 * clamp(1.15 - 0.75 * t, 0.0, 1.0);
    float ends = smoothstep(-0.05, 0.06, t) * (1.0 - smoothstep(0.9, 1.02, t));
    return smoothstep(-0.0006, 0.0006, halfHeight - abs(z - middle)) * ends;
}

void main() {
    vec3 normal = normalize(vNormal);
    float x = abs(vPlace.x), y = vPlace.y, z = vPlace.z;
    vec3 colour = SKIN;
    float gloss = 0.10;
    float shade = 1.0;
    if (vMaterial < 0.5) {
        float front = step(y, -0.06);
        vec2 fromCheek = vec2((x - 0.042) / 0.018, (z - 0.690) / 0.016);
        float cheek = exp(-dot(fromCheek, fromCheek)) * front;
        colour = mix(colour, SKIN * vec3(1.0, 0.72, 0.70), 0.5 * cheek);
        colour = mix(colour, SKIN * 0.72, 0.6 * vMasks.z);
        float lip = smoothstep(0.30, 0.65, vMasks.x);
        colour = mix(colour, LIP, lip);
        gloss += 0.18 * lip;
        float inside = smoothstep(0.25, 0.60, vMasks.y);
        colour = mix(colour, vec3(0.03, 0.006, 0.006), inside);
        gloss *= 1.0 - inside;
        colour = mix(colour, BROW * (0.75 + 0.5 * noise(vec2(vPlace.x * 900.0, z * 250.0))), 0.92 * brow(x, z) * front);
        float hair = smoothstep(0.48, 0.52, vMasks.w + 0.05 * (noise(vec2(vPlace.x * 500.0, y * 200.0)) - 0.5));
        float angle = atan(vPlace.x, 0.80 - z);
        float strands = 0.65 + 0.7 * noise(vec2(angle * 55.0 + 3.0 * noise(vec2(y, z) * 60.0), y * 25.0));
        colour = mix(colour, HAIR * strands, hair);
        gloss = mix(gloss, 0.06, hair);
    } else if (vMaterial < 1.5) {
        float radius = length(vPlace.xz);
        colour = mix(vec3(0.80, 0.77, 0.75), IRIS * (1.0 - 0.65 * smoothstep(0.34, 0.44, radius)), 1.0 - smoothstep(0.43, 0.47, radius));
        colour *= 1.0 - 0.97 * (1.0 - smoothstep(0.16, 0.20, radius));
        gloss = 0.0;
        shade = 1.0 - 0.45 * smoothstep(0.05, 0.55, z); // the upper lid's shadow
    } else if (vMaterial < 2.5) {
        colour = vec3(0.72, 0.68, 0.58);
        shade = 0.85;
    } else if (vMaterial < 3.5) {
        colour = vec3(0.30, 0.07, 0.07);
        shade = 0.7;
    } else {
        colour = vec3(0.02, 0.012, 0.01);
        gloss = 0.0;
    }
    vec3 light = normalize(LIGHT);
    float diffuse = clamp((dot(normal, light) + 0.25) / 1.25, 0.0, 1.0);
    float fill = clamp(0.7 * normal.z + 0.3 * normal.y, 0.0, 1.0);
    float energy = (0.38 * (0.45 + 0.55 * fill) + 0.85 * diffuse) * shade;
    if (vMaterial > 1.5 && vMaterial < 2.5) energy = mix(energy, 0.8, 0.75); // too few corners to be shaded by
    float sheen = clamp(dot(normal, normalize(light + vec3(0, 0, 1))), 0.0, 1.0);
    float eye = step(0.5, vMaterial) * step(vMaterial, 1.5);
    vec3 lit = colour * energy + 0.85 * gloss * pow(sheen, 18.0) + 0.8 * eye * step(0.985, sheen);
    float seen = vMaterial < 0.5 ? smoothstep(0.555, 0.600, z + 0.35 * clamp(y + 0.06, -0.1, 0.1)) : 1.0; // the neck fades out
    gl_FragColor = vec4(sqrt(lit) * seen, seen);
}
