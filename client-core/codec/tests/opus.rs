//! Opus there and back, with and without all packets, and whatever else may arrive as one.
#![cfg(feature = "opus")]
#![allow(clippy::unwrap_used, reason = "a test that cannot start has failed")]

use proptest::prelude::*;
use snug_codec::opus::{
    Channels, Decoder, Encoder, EncoderConfig, FRAME_SAMPLES, MAX_PACKET_BYTES, MAX_PACKET_SAMPLES, OpusError,
};

fn buzz(frames: usize) -> Vec<f32> {
    (0..frames * FRAME_SAMPLES)
        .map(|n| {
            let phase = std::f32::consts::TAU * 150.0 * n as f32 / 48_000.0;
            (1..10).map(|k| (phase * k as f32).sin() / k as f32).sum::<f32>() * 0.2 * syllable(n)
        })
        .collect()
}

/// Three in a second: what lasts unchanged is background to the encoder, which repeats only speech.
fn syllable(sample: usize) -> f32 {
    (std::f32::consts::TAU * 1.5 * sample as f32 / 48_000.0).sin().abs()
}

fn packets(loss_percent: u8, sound: &[f32]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(EncoderConfig::voice()).unwrap();
    encoder.set_loss_percent(loss_percent).unwrap();
    sound.chunks_exact(FRAME_SAMPLES).map(|frame| encoder.encode(frame).unwrap().payload.to_vec()).collect()
}

fn energy(sound: &[f32]) -> f32 {
    sound.iter().map(|sample| sample * sample).sum::<f32>() / sound.len() as f32
}

#[test]
fn sound_comes_back_as_loud_as_it_went_in() {
    let sound = buzz(50);
    let (mut decoder, mut heard) = (Decoder::new(Channels::Mono).unwrap(), Vec::new());
    for packet in packets(0, &sound) {
        assert_eq!(decoder.decode(&packet, &mut heard), Ok(FRAME_SAMPLES));
    }
    let ratio = energy(&heard[24_000..]) / energy(&sound[24_000..]);
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
}

#[test]
fn two_channels_stay_apart() {
    let config =
        EncoderConfig { channels: Channels::Stereo, bitrate: 96_000, dtx: false, ..EncoderConfig::voice() };
    let mut encoder = Encoder::new(config).unwrap();
    let (mut decoder, mut heard) = (Decoder::new(Channels::Stereo).unwrap(), Vec::new());
    let left: Vec<f32> = buzz(30).into_iter().flat_map(|sample| [sample, 0.0]).collect();
    for frame in left.chunks_exact(2 * FRAME_SAMPLES) {
        let packet = encoder.encode(frame).unwrap().payload.to_vec();
        decoder.decode(&packet, &mut heard).unwrap();
    }
    let side = |channel: usize| {
        energy(&heard[20_000..].chunks_exact(2).map(|pair| pair[channel]).collect::<Vec<_>>())
    };
    assert!(side(0) > 50.0 * side(1), "{} and {}", side(0), side(1));
}

#[test]
fn a_lost_frame_is_in_the_next_packet_while_loss_is_declared() {
    let sound = buzz(50);
    assert!(!packets(0, &sound).iter().any(|packet| Decoder::has_fec(packet)));
    let packets = packets(20, &sound);
    let repairing =
        (20..50).find(|index| Decoder::has_fec(&packets[*index])).expect("loud frames are repeated");
    let (mut decoder, mut heard) = (Decoder::new(Channels::Mono).unwrap(), Vec::new());
    for packet in &packets[..repairing - 1] {
        decoder.decode(packet, &mut heard).unwrap();
    }
    let mut repaired = Vec::new();
    assert_eq!(decoder.decode_fec(&packets[repairing], FRAME_SAMPLES, &mut repaired), Ok(FRAME_SAMPLES));
    let ratio = energy(&repaired) / energy(&sound[(repairing - 1) * FRAME_SAMPLES..][..FRAME_SAMPLES]);
    assert!((0.3..3.0).contains(&ratio), "{ratio}");
}

#[test]
fn silence_becomes_a_pause() {
    let mut encoder = Encoder::new(EncoderConfig::voice()).unwrap();
    let silence = [0.0; FRAME_SAMPLES];
    let silent = (0..100).filter(|_| encoder.encode(&silence).unwrap().silent).count();
    assert!(silent > 70, "{silent} of 100 frames");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    assert!(matches!(
        Encoder::new(EncoderConfig { bitrate: 100, ..EncoderConfig::voice() }),
        Err(OpusError::Setting { what: "bitrate", value: 100 })
    ));
    assert!(matches!(
        Encoder::new(EncoderConfig { complexity: 11, ..EncoderConfig::voice() }),
        Err(OpusError::Setting { what: "complexity", value: 11 })
    ));
    let mut encoder = Encoder::new(EncoderConfig::voice()).unwrap();
    assert!(matches!(encoder.encode(&[0.0; 480]), Err(OpusError::FrameLength { wanted: 960, got: 480 })));
    assert!(matches!(
        encoder.set_loss_percent(101),
        Err(OpusError::Setting { what: "loss_percent", value: 101 })
    ));
    let (mut decoder, mut out) = (Decoder::new(Channels::Mono).unwrap(), Vec::new());
    assert_eq!(decoder.conceal(100, &mut out), Err(OpusError::FillLength(100)));
    assert!(matches!(decoder.decode(&[], &mut out), Err(OpusError::Packet(_))));
    assert_eq!(
        decoder.decode(&[0; MAX_PACKET_BYTES + 1], &mut out),
        Err(OpusError::PacketTooLong(MAX_PACKET_BYTES + 1))
    );
    assert!(out.is_empty());
}

proptest! {
    #[test]
    fn no_bytes_break_the_decoder(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12), step in 1_usize..48) {
        for channels in [Channels::Mono, Channels::Stereo] {
            let mut decoder = Decoder::new(channels).unwrap();
            let mut out = Vec::new();
            for packet in &packets {
                out.clear();
                let _ = Decoder::has_fec(packet);
                if let Ok(samples) = decoder.decode(packet, &mut out) {
                    prop_assert!(samples <= MAX_PACKET_SAMPLES && out.len() == samples * channels.count());
                }
                out.clear();
                if let Ok(samples) = decoder.decode_fec(packet, step * 120, &mut out) {
                    prop_assert!(out.len() == samples * channels.count());
                }
                out.clear();
                prop_assert_eq!(decoder.conceal(step * 120, &mut out), Ok(step * 120));
            }
        }
    }

    #[test]
    fn no_sound_breaks_the_encoder(values in prop::collection::vec(any::<f32>(), 64)) {
        let mut encoder = Encoder::new(EncoderConfig::voice()).unwrap();
        let frame: Vec<f32> = values.iter().copied().cycle().take(FRAME_SAMPLES).collect();
        for _ in 0..3 {
            prop_assert!(encoder.encode(&frame).is_ok());
        }
    }
}
