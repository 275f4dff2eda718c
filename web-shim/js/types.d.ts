// Types shared by the page's modules; never shipped. Names follow relay/wire/PROTOCOL.md.

import type { Identity } from './identity.js';

export type Payload = { sealed: string } | { plain: string; proof?: string };
export type Media = { audio: boolean; video: boolean; screen: boolean; hand: boolean; recording: boolean };
export type Participant = {
  userId: string;
  /** Missing for one that the relay admitted without a key. */
  publicKey?: string;
  /** Came with the ticket of this one, and another key. */
  formerId?: string;
  capabilities?: string[];
  displayName: Payload;
  media: Media;
  away: boolean;
  owner: boolean;
};
export type RoomInfo = {
  maxParticipants: number;
  allowScreenShare: boolean;
  passwordEnabled: boolean;
  locked: boolean;
  sealed: boolean;
  lobby?: boolean;
  admission?: string;
  removed?: number;
};
export type IceServer = { urls: string[]; username?: string; credential?: string };
/** What the owner may set. */
export type RoomSettings = { maxParticipants?: number; allowScreenShare?: boolean; lobby?: boolean; admission?: 'owner' | 'anyone' };
export type RoomStats = { createdAt: string; lastUsed: string; totalSessions: number; totalDurationSeconds: number };
export type RoomMeta = {
  roomId: string;
  passwordEnabled: boolean | null;
  locked: boolean | null;
  maxParticipants: number | null;
  participants: { userId: string; publicKey: string; displayName: Payload }[] | null;
};

/** What link.js reads from the address. */
export type RoomLink = {
  roomId: string;
  secret: Uint8Array<ArrayBuffer> | null;
  ownerToken: string | null;
  /** The fragment is there but not whole: ask for the whole link instead of joining without its secret. */
  damaged?: boolean;
};

/** What a pasted text says. Where it leaves out scheme, host or port, those of this page are meant. */
export type FoundLink = {
  scheme: string | null;
  /** Lower case, an IPv6 address without its brackets. */
  host: string | null;
  port: number | null;
  roomId: string;
  secret: Uint8Array<ArrayBuffer> | null;
  ownerToken: string | null;
};

/** What the pre-join page hands to the call. */
export type JoinOptions = {
  link: RoomLink;
  name: string;
  password: string | null;
  /** Tokens that may be the owner's, the likeliest first. Without any, one is drawn with each join, which may make the room. */
  ownerTokens: string[];
  /** What a relay may want of those who make rooms. */
  creationKey?: string | undefined;
  microphone: MediaStreamTrack | null;
  camera: MediaStreamTrack | null;
  identity: Identity;
};

export type SignalingState = 'connecting' | 'online' | 'reconnecting' | 'closed';

/** The link's state in words: `connecting` at first, `interrupted` when packets stop, `refused` when sealing failed. */
export type LinkState = 'connecting' | 'connected' | 'interrupted' | 'refused' | 'closed';
/** What keeps a link from its first connection: no answer, no network path on one side, or none that works. */
export type LinkTrouble = 'silent' | 'pathlessHere' | 'pathlessThere' | 'blocked';
export type SealProblem = 'not_sealed' | 'not_signed' | 'reflected' | 'tampered' | 'replayed' | 'outdated' | 'no_secret';
export type Quality = 'unknown' | 'good' | 'fair' | 'poor' | 'lost';

/** One remote participant as the view draws it. Streams are stable objects: attach them once. */
export type RemoteSnapshot = {
  userId: string;
  name: string;
  media: Media;
  away: boolean;
  owner: boolean;
  capabilities: string[];
  /** Whether what it says is checked against a key; its id stands for that key. */
  verified: boolean;
  /** The relay says that this is somebody who was here before; it has another key. */
  newKey: boolean;
  /** Places of the safety words in the list of nouns; null until both sides have shown their part, `forged` when that does not fit. */
  safety: number[] | 'forged' | null;
  link: LinkState;
  refusal: SealProblem | null;
  /** Set when the first connection takes long. */
  trouble: LinkTrouble | null;
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
  /** Why the relay will not have us back, while links still carry the call: `call.rejoin` asks again. */
  refused: CallEnd | null;
  selfId: string;
  selfName: string;
  isOwner: boolean;
  /** Set once the relay has confirmed it. */
  ownerToken: string | null;
  room: RoomInfo | null;
  /** In the lobby: somebody inside has to let us in. */
  waiting: boolean;
  /** Who waits in the lobby, where we may let them in. */
  knocks: { userId: string; name: string }[];
  /** The link has a secret, so payloads are sealed. */
  sealed: boolean;
  media: Media;
  remotes: RemoteSnapshot[];
  /** The userId of who speaks (never ourselves), or null. */
  activeSpeaker: string | null;
  chat: ChatMessage[];
};

/** Why a join did not succeed, or why the call ended. `code` is a protocol error code, or one of the page's own. */
export type CallEnd = {
  code: string;
  message: string;
  retryAfterMs?: number | undefined;
  maxParticipants?: number | undefined;
  hint?: string | undefined;
};
/* The page's own codes: ROOM_FULL, AUTH_REQUIRED (a password was wanted; `hint` if the owner set one), NETWORK (no connection to the relay),
 * RELAY_FULL, TIMEOUT, INSECURE (no WebCrypto outside https and localhost), NO_WEBRTC, NO_WEBSOCKET (a proxy refuses it), BAD_ORIGIN,
 * SUSPENDED (the page was left and came back), RELAY_OUTDATED (the relay speaks an earlier version of the protocol), CALL_ENDED (by the owner). */

// What follows is the engine's own vocabulary (wire.js, signaling.js, mesh.js, peer-link.js).

export type ClientMessage = (
  | { type: 'hello'; versions: number[]; capabilities?: string[]; agent?: string }
  | {
      type: 'join_room';
      roomId: string;
      publicKey: string;
      keyProof: string;
      displayName: Payload;
      password?: string;
      linkProof?: string;
      ownerToken?: string;
      ticket?: string;
      creationKey?: string;
      media: Media;
    }
  | { type: 'resume'; roomId: string; userId: string; resumeToken: string; lastSeq: number }
  | { type: 'unban' | 'end_call' }
  | { type: 'admit'; targetId: string; admitted: boolean }
  | { type: 'leave_room' | 'clear_room_password' | 'rotate_owner_token' | 'get_stats' | 'turn_credentials' }
  | { type: NegotiationKind; targetId: string; payload: Payload }
  | { type: 'toggle_audio' | 'toggle_video' | 'toggle_screen' | 'toggle_hand'; enabled: boolean }
  | { type: 'set_room_password'; password: string; hint?: string }
  | { type: 'lock_room'; locked: boolean }
  | { type: 'kick' | 'ask_mute'; targetId: string }
  | ({ type: 'update_settings' } & RoomSettings)
  | { type: 'ping'; lastSeq?: number }
) & { requestId?: number };

export type RoomJoined = {
  type: 'room_joined';
  roomId: string;
  userId: string;
  resumeToken: string;
  ticket: string;
  participants: Participant[];
  roomInfo: RoomInfo;
  isOwner: boolean;
  ownerToken?: string;
  iceServers: IceServer[];
  iceTtlSeconds: number;
  seatHoldSeconds: number;
};

export type ServerMessage = (
  | { type: 'welcome'; versions: number[]; capabilities?: string[]; relay: string; heartbeatSeconds: number; nonce: string }
  | RoomJoined
  | { type: 'resumed'; resumeToken: string; replayed: number }
  | { type: 'user_joined'; participant: Participant }
  | { type: 'user_away' | 'user_back'; userId: string }
  | { type: 'user_left'; userId: string; reason: string }
  | { type: 'offer_received' | 'answer_received' | 'ice_candidate_received'; fromId: string; payload: Payload }
  | { type: 'peer_state'; userId: string; media: Media }
  | { type: 'peer_name'; userId: string; displayName: Payload }
  | { type: 'knock'; userId: string; publicKey: string; displayName: Payload }
  | { type: 'knock_gone' | 'owner_changed'; userId: string }
  | { type: 'mute_requested' | 'ownership_offered'; fromId: string }
  | { type: 'waiting' | 'link_changed' | 'call_ended' }
  | { type: 'room_updated'; roomInfo: RoomInfo }
  | { type: 'owner_token'; ownerToken: string }
  | ({ type: 'room_stats' } & RoomStats)
  | { type: 'turn_credentials'; iceServers: IceServer[]; iceTtlSeconds: number }
  | { type: 'room_full'; maxParticipants: number; retryAfterMs?: number }
  | { type: 'auth_required'; hint?: string }
  | { type: 'done' | 'kicked' | 'pong' }
  | { type: 'drain'; reconnectAfterMs: number }
  | { type: 'error'; code: string; message: string; retryAfterMs?: number }
) & { seq?: number; requestId?: number };

export type NegotiationKind = 'offer' | 'answer' | 'ice_candidate';
export type SealKind = NegotiationKind | 'name' | 'chat';
export type Tile = { width: number; height: number; screenWidth: number; screenHeight: number };

export type ChannelMessage =
  | { type: NegotiationKind; payload: Payload }
  | { type: 'chat'; payload: Payload }
  | { type: 'media_state'; media: Media }
  | ({ type: 'tile' } & Tile)
  | { type: 'safety'; nonce: string }
  | { type: 'bye' };

/** What is inside an offer or answer, and inside a candidate. */
export type Description = { sdp: string; session: string; restart: boolean; commitment?: string; safetyNonce?: string };
export type Candidate = { candidate: string; sdpMid: string | null; sdpMLineIndex: number | null; session: string };
export type ChatPayload = { id: string; text: string; sentAt: number };

/** What the engine needs of the browser; tests bring their own. */
export type Environment = {
  origin: string;
  WebSocket: new (url: string) => WebSocket;
  RTCPeerConnection: new (configuration?: RTCConfiguration) => RTCPeerConnection;
  MediaStream: new () => MediaStream;
  /** Milliseconds of a clock that never jumps. */
  now(): number;
  /** 0 to 1, for back-off only. */
  random(): number;
  isHidden(): boolean;
  /** `moved`: the local address has probably changed; `woken`: look whether everything still lives. Returns how to stop listening. */
  onNetworkHint(listener: (hint: 'moved' | 'woken') => void): () => void;
  /** Why WebSockets fail although the relay is there, as an error code; null when that is not so. */
  socketRefusal(): Promise<string | null>;
};

/** What one look at a link's statistics says. */
export type LinkHealth = { quality: Quality; path: 'direct' | 'relayed' | null; roundTripMs: number | null; loss: number | null };

export type Notice = {
  kind: 'joined' | 'left' | 'away' | 'back' | 'kicked' | 'muted' | 'screen' | 'chat' | 'hand' | 'refused' | 'muteAsked' | 'knock';
  userId: string;
  name: string;
};
