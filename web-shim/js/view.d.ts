// Types of the page's views; never shipped. What the engine hands over is in types.d.ts.

import type { Call } from './call.js';
import type { Devices } from './devices.js';
import type { Media, RoomLink } from './types.js';

/** What main.js gives to every view. */
export type App = {
  root: HTMLElement;
  /** Replaces the view on the page. */
  show(view: ViewName, session?: Session): Promise<void>;
  /** Changes the address to a path of this origin and shows what belongs there. */
  go(path: string): void;
  /** Draws the same view again, after the language changed. */
  refresh(session?: Session): void;
};

export type ViewName = 'landing' | 'prejoin' | 'call' | 'left';

/** A view on the page: where the focus goes when it appears, and how it is taken away. */
export type View = { focus?: HTMLElement | null; dispose(): void };

/** One visit of a room, from the pre-join page to the page after it. */
export type Session = {
  roomId: string;
  link: RoomLink;
  devices: Devices;
  name: string;
  password: string | null;
  /** Tokens that may be the owner's; in the call only the one that is. */
  ownerTokens: string[];
  call: Call | null;
  /** Why the call ended, when the person did not leave by themselves. */
  ended: string | null;
};

/** What a tile shows. `veil` is the sentence over it, or empty. */
export type TileState = {
  name: string;
  self?: boolean;
  picture: boolean;
  muted: boolean;
  hand: boolean;
  owner: boolean;
  /** Its client stores the call. */
  recording?: boolean;
  /** What is in doubt about who it is, or empty. */
  doubt?: string;
  speaking: boolean;
  veil: string;
  link: string;
};

/** A line of the people panel. `words` says how well its link works. */
export type Person = {
  userId: string;
  name: string;
  media: Media;
  owner: boolean;
  /** What is in doubt about who it is, or empty. */
  doubt: string;
  /** Whether it obeys the owner's request to mute. */
  mutes: boolean;
  safety: number[] | 'forged' | null;
  words: string;
  quality: string;
  self: boolean;
  screenSound: boolean;
};

export type Rect = { x: number; y: number; width: number; height: number };
