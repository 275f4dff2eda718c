// Types shared by the page's modules; never shipped. Names follow relay/wire/PROTOCOL.md.

export type Payload = { sealed: string } | { plain: string };
export type Media = { audio: boolean; video: boolean; screen: boolean; hand: boolean };
export type Participant = { userId: string; displayName: Payload; media: Media; away: boolean; owner: boolean };
export type RoomInfo = {
  maxParticipants: number;
  allowScreenShare: boolean;
  passwordEnabled: boolean;
  locked: boolean;
  sealed: boolean;
};
export type IceServer = { urls: string[]; username?: string; credential?: string };
export type RoomStats = { createdAt: string; lastUsed: string; totalSessions: number; totalDurationSeconds: number };
export type RoomMeta = {
  roomId: string;
  passwordEnabled: boolean | null;
  locked: boolean | null;
  maxParticipants: number | null;
  participants: { userId: string; displayName: Payload }[] | null;
};

/** What link.js reads from the address. */
export type RoomLink = { roomId: string; secret: Uint8Array<ArrayBuffer> | null; ownerToken: string | null };

/** What the pre-join page hands to the call. */
export type JoinOptions = {
  link: RoomLink;
  name: string;
  password: string | null;
  ownerToken: string | null;
  microphone: MediaStreamTrack | null;
  camera: MediaStreamTrack | null;
};

export type SignalingState = 'connecting' | 'online' | 'reconnecting' | 'closed';

/** The link's state in words: `connecting` at first, `interrupted` when packets stop, `refused` when sealing failed. */
export type LinkState = 'connecting' | 'connected' | 'interrupted' | 'refused' | 'closed';
export type SealProblem = 'not_sealed' | 'reflected' | 'tampered' | 'replayed' | 'no_secret';
export type Quality = 'unknown' | 'good' | 'fair' | 'poor' | 'lost';

/** One remote participant as the view draws it. Streams are stable objects: attach them once. */
export type RemoteSnapshot = {
  userId: string;
  name: string;
  media: Media;
  away: boolean;
  owner: boolean;
  link: LinkState;
  refusal: SealProblem | null;
  quality: Quality;
  /** Relayed or direct, once known. */
  path: 'direct' | 'relayed' | null;
  roundTripMs: number | null;
  /** Fraction of packets lost, 0 to 1, over the last few seconds, towards us. */
  loss: number | null;
  /** 0 to 1: how loud, for the active speaker ring. */
  level: number;
  voice: MediaStream;
  camera: MediaStream;
  screen: MediaStream;
};

export type ChatMessage = { id: string; fromId: string; name: string; text: string; sentAt: number; own: boolean };

export type CallSnapshot = {
  signaling: SignalingState;
  selfId: string;
  selfName: string;
  isOwner: boolean;
  ownerToken: string | null;
  room: RoomInfo | null;
  /** The link has a secret, so payloads are sealed. */
  sealed: boolean;
  media: Media;
  remotes: RemoteSnapshot[];
  /** The userId of who speaks (never ourselves), or null. */
  activeSpeaker: string | null;
  chat: ChatMessage[];
};

/** Why a join did not succeed, or why the call ended. `code` is a protocol error code, or one of the page's own. */
export type CallEnd = { code: string; message: string; retryAfterMs?: number; maxParticipants?: number; hint?: string };
