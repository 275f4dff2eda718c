//! The resolutions a picture is encoded in, once each for all links.

use std::cmp::Ordering;

use bytes::Bytes;

/// One encoded resolution of a video track.
///
/// Ordered by quality: `Low < Medium < High`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// 320×180 at 15 frames a second: strips, large calls, bad links.
    Low,
    /// 640×360 at 30 frames a second: grid tiles.
    Medium,
    /// 1280×720 at 30 frames a second: the speaker, a pinned tile, calls of two.
    High,
}

impl Layer {
    /// All layers, the smallest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// Width and height in pixels.
    pub const fn size(self) -> (u32, u32) {
        match self {
            Self::Low => (320, 180),
            Self::Medium => (640, 360),
            Self::High => (1280, 720),
        }
    }

    /// The layer to encode a picture of size `source` in for somebody who shows it within `tile`, both
    /// width and height in pixels: the smallest that is not enlarged there, [`Layer::High`] at most.
    /// Nothing is scaled up, so it is never above [`Layer::top`]. `None` when nothing is shown.
    ///
    /// What is planned and what is encoded is decided here alone: a layer that is planned but not
    /// encoded freezes the picture.
    pub fn for_tile(source: (u32, u32), tile: (u32, u32)) -> Option<Self> {
        if tile.0 == 0 || tile.1 == 0 {
            return None;
        }
        let shown = Scale::within(source, tile);
        let fills = |layer: &Self| Scale::within(source, turned(source, layer.size())) >= shown;
        Some(Self::ALL.into_iter().find(fills).unwrap_or(Self::High))
    }

    /// The best layer of a picture of this size: a layer above it would be the same picture again.
    pub fn top(source: (u32, u32)) -> Self {
        Self::for_tile(source, source).unwrap_or(Self::Low)
    }

    /// Width and height in this layer of a picture of size `source`.
    pub fn picture(self, source: (u32, u32)) -> (u32, u32) {
        fit(source, self.size())
    }

    /// Frames a second with both temporal layers.
    pub const fn frame_rate(self) -> u32 {
        match self {
            Self::Low => 15,
            Self::Medium | Self::High => 30,
        }
    }

    /// The lowest bit rate worth encoding at, in bit/s.
    pub const fn min_bps(self) -> u64 {
        match self {
            Self::Low => 80_000,
            Self::Medium => 250_000,
            Self::High => 600_000,
        }
    }

    /// The bit rate above which the picture gains nothing visible, in bit/s.
    pub const fn max_bps(self) -> u64 {
        match self {
            Self::Low => 130_000,
            Self::Medium => 450_000,
            Self::High => 1_500_000,
        }
    }

    /// The part of `bps` that temporal layer 0 alone needs: 60 % of it, for half the frames.
    pub const fn base_bps(bps: u64) -> u64 {
        bps * 3 / 5
    }
}

/// The largest even size with the shape of `size` that fits the box, never larger than `size` itself
/// and never below 2×2. A portrait picture gets the box turned.
pub fn fit(size: (u32, u32), within: (u32, u32)) -> (u32, u32) {
    let scale = Scale::within(size, turned(size, within));
    (scale.of(size.0), scale.of(size.1))
}

/// The box as a picture of this size gets it.
fn turned(size: (u32, u32), (long, short): (u32, u32)) -> (u32, u32) {
    if size.0 >= size.1 { (long, short) } else { (short, long) }
}

/// By how much a picture is scaled down: a fraction of at most 1.
#[derive(Clone, Copy)]
struct Scale {
    numerator: u64,
    denominator: u64,
}

impl Scale {
    /// The largest scale at which a picture of `size` lies within `limits`.
    fn within(size: (u32, u32), limits: (u32, u32)) -> Self {
        let side = |side: u32, limit: u32| Self {
            numerator: u64::from(limit.min(side.max(1))),
            denominator: u64::from(side.max(1)),
        };
        let (wide, high) = (side(size.0, limits.0), side(size.1, limits.1));
        if wide < high { wide } else { high }
    }

    /// A side at this scale, rounded, then made even.
    fn of(self, side: u32) -> u32 {
        let scaled = (u64::from(side) * self.numerator + self.denominator / 2) / self.denominator;
        u32::try_from(scaled & !1).unwrap_or(u32::MAX - 1).max(2)
    }

    fn order(self, other: Self) -> Ordering {
        (self.numerator * other.denominator).cmp(&(other.numerator * self.denominator))
    }
}

impl PartialEq for Scale {
    fn eq(&self, other: &Self) -> bool {
        self.order(*other).is_eq()
    }
}

impl PartialOrd for Scale {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.order(*other))
    }
}

/// A compressed picture, shared by all links that forward it.
#[derive(Debug, Clone)]
pub struct EncodedFrame {
    /// The resolution it was encoded for.
    pub layer: Layer,
    /// Temporal layer: 0 is needed by every later frame, 1 may be left out.
    pub temporal: u8,
    /// A frame of temporal layer 1 that refers to layer 0 only: whoever left layer 1 out may take it up here.
    pub sync: bool,
    /// Decodable without any earlier frame.
    pub key: bool,
    /// Capture time on a 90 kHz clock that all layers share.
    pub timestamp: u32,
    /// The VP8 bitstream of the frame.
    pub data: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways up. Sides around every limit, and odd ones.
    fn shapes() -> impl Iterator<Item = (u32, u32)> {
        let wide = [16, 17, 18, 160, 176, 179, 180, 181, 240, 300, 319, 320, 321, 322, 352, 359, 360, 361]
            .into_iter()
            .chain([400, 480, 539, 540, 639, 640, 641, 642, 719, 720, 721, 854, 960, 1080, 1279, 1280])
            .chain([1281, 1282, 1440, 1918, 1919, 1920, 2304, 2560, 3840, 4095, 4096]);
        let all = wide.clone().flat_map(move |a| wide.clone().map(move |b| (a, b)));
        all.filter(|&(width, height)| width.min(height) <= 2304)
    }

    fn tiles() -> impl Iterator<Item = (u32, u32)> {
        let sides = [1, 2, 90, 179, 180, 181, 319, 320, 321, 359, 360, 361, 640, 720, 1280, 2160, 16384];
        sides.into_iter().flat_map(move |a| sides.into_iter().map(move |b| (a, b)))
    }

    #[test]
    fn a_layer_for_a_tile_is_one_that_is_made_and_is_not_enlarged_without_need() {
        for source in shapes() {
            let top = Layer::top(source);
            for tile in tiles() {
                let layer = Layer::for_tile(source, tile).expect("it is shown");
                assert!(layer <= top, "{source:?} in {tile:?}: {layer:?} above {top:?}");
                let (picture, whole) = (layer.picture(source), top.picture(source));
                let enlarged = [(picture.0, source.0, tile.0), (picture.1, source.1, tile.1)]
                    .iter()
                    // Sides are rounded to even ones.
                    .all(|(made, side, shown)| made + 2 < *side.min(shown));
                assert!(!enlarged || picture == whole, "{source:?} in {tile:?} as {picture:?}");
            }
        }
    }

    #[test]
    fn a_picture_and_the_same_one_turned_have_the_same_layers() {
        for (width, height) in shapes() {
            assert_eq!(Layer::top((width, height)), Layer::top((height, width)), "{width}x{height}");
            for layer in Layer::ALL {
                let (upright, lying) = (layer.picture((width, height)), layer.picture((height, width)));
                assert_eq!(upright, (lying.1, lying.0), "{width}x{height} as {layer:?}");
            }
        }
    }

    #[test]
    fn a_picture_keeps_its_shape_lies_within_its_layer_and_is_even() {
        for (width, height) in shapes() {
            for layer in Layer::ALL {
                let (wide, high) = layer.picture((width, height));
                let (long, short) = layer.size();
                assert!(wide.max(high) <= long && wide.min(high) <= short);
                assert!(wide % 2 == 0 && high % 2 == 0 && wide >= 2 && high >= 2);
                let (expected_high, expected_wide) = (
                    f64::from(wide) * f64::from(height) / f64::from(width),
                    f64::from(high) * f64::from(width) / f64::from(height),
                );
                let off =
                    (f64::from(high) - expected_high).abs().min((f64::from(wide) - expected_wide).abs());
                assert!(off <= 2.0, "{width}x{height} as {layer:?}: {wide}x{high}");
            }
        }
    }

    #[test]
    fn what_phones_send_has_the_layers_of_the_box_turned() {
        for (source, top) in [
            ((360, 640), Layer::Medium),
            ((352, 640), Layer::Medium),
            ((270, 480), Layer::Medium),
            ((240, 640), Layer::Medium),
            ((180, 320), Layer::Low),
            ((300, 400), Layer::Medium),
            ((361, 641), Layer::High),
            ((720, 1280), Layer::High),
            ((16, 16), Layer::Low),
            ((16, 4096), Layer::High),
            ((4096, 2304), Layer::High),
        ] {
            assert_eq!(Layer::top(source), top, "{source:?}");
            assert_eq!(Layer::for_tile(source, (1280, 720)).max(Some(top)), Some(top), "{source:?}");
        }
        assert_eq!(Layer::for_tile((720, 1280), (320, 180)), Some(Layer::Low));
        assert_eq!(Layer::for_tile((720, 1280), (640, 360)), Some(Layer::Medium));
        assert_eq!(Layer::for_tile((720, 1280), (1280, 720)), Some(Layer::High));
        assert_eq!(Layer::for_tile((720, 1280), (0, 720)), None);
        assert_eq!(Layer::for_tile((720, 1280), (1280, 0)), None);
    }
}
