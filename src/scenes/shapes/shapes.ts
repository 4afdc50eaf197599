/** The shape of every kind. */
import type { Kind } from '../world.js';
import { bird, cat, dog, fish } from './animals.js';
import { flower, mushroom, person, tree } from './living.js';
import type { Shape } from './pen.js';
import { cloud, moon, star, sun } from './sky.js';
import { ball, boat, car, chair, house, umbrella } from './things.js';

export const SHAPES: Readonly<Record<Kind, Shape>> = {
  house,
  tree,
  boat,
  car,
  sun,
  moon,
  star,
  cloud,
  cat,
  dog,
  bird,
  fish,
  ball,
  flower,
  person,
  chair,
  umbrella,
  mushroom,
};
