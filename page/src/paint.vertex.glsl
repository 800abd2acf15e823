attribute vec3 position;
attribute vec3 normal;
attribute vec3 place;
attribute vec4 masks;
attribute float material;

uniform mat4 modelViewMatrix;
uniform mat4 projectionMatrix;
uniform mat3 normalMatrix;

varying vec3 vNormal;
varying vec3 vPlace;
varying vec4 vMasks;
varying float vMaterial;

void main() {
    vNormal = normalMatrix * normal;
    vPlace = place;
    vMasks = masks;
    vMaterial = material;
    gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
}
