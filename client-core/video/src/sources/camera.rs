//! Cameras of this machine, by nokhwa, in their raw formats. A thread of [`Watched`] reads the device and opens it again when it fails.

use std::time::Instant;

use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType};
use nokhwa::{Camera, NokhwaError};

use super::watched::{Device, Patience, Pictures, Watched};
use super::{SourceError, Stop, VideoSource};
use crate::frame::{FramePool, I420Frame, SharedFrame};
use crate::mjpeg::MjpegDecoder;
use crate::pixel;

/// Broken pictures in a row before the device counts as failed: those of a second.
const MOST_BROKEN: usize = 30;
/// The size that layers are made from.
const WANTED: (u32, u32) = (1280, 720);
/// Fewer frames a second are taken only when there is nothing else.
const FLUENT: u32 = 24;
/// What is understood; everything but JPEG costs next to nothing to convert.
const FORMATS: [FrameFormat; 5] =
    [FrameFormat::NV12, FrameFormat::YUYV, FrameFormat::MJPEG, FrameFormat::RAWRGB, FrameFormat::GRAY];

/// A camera in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraDevice {
    /// Names the camera to [`CameraSource::open`]; the same after it was unplugged, and in the next session.
    pub id: String,
    /// For people.
    pub name: String,
}

/// The cameras that are plugged in.
///
/// # Errors
/// When the system's list cannot be had. A machine without a camera is no error: the list is empty.
pub fn cameras() -> Result<Vec<CameraDevice>, SourceError> {
    Ok(find()?.into_iter().map(|(device, _)| device).collect())
}

fn find() -> Result<Vec<(CameraDevice, CameraIndex)>, SourceError> {
    let backend = nokhwa::native_api_backend().ok_or(SourceError::NoCameras)?;
    let infos = nokhwa::query(backend).map_err(SourceError::camera)?;
    let mut found: Vec<(CameraDevice, CameraIndex)> = Vec::new();
    for info in infos {
        if !is_capture_node(info.index()) {
            continue;
        }
        let name = info.human_name();
        let same = found.iter().filter(|(device, _)| device.name == name).count();
        // Numbers change when cameras are plugged in another order; names, and what some systems call unique, do not.
        let id = match (info.misc(), same) {
            (unique, _) if !unique.is_empty() => unique,
            (_, 0) => name.clone(),
            (_, same) => format!("{name} #{}", same + 1),
        };
        found.push((CameraDevice { id, name }, info.index().clone()));
    }
    Ok(found)
}

/// Linux lists a camera's metadata as further devices of the same name.
fn is_capture_node(index: &CameraIndex) -> bool {
    let path = format!("/sys/class/video4linux/video{index}/index");
    std::fs::read_to_string(path).map_or(true, |number| number.trim() == "0")
}

/// The best format for calls: fluent, near 1280×720, and not JPEG if that is all the same.
fn choose(formats: &[CameraFormat]) -> Option<CameraFormat> {
    let known = formats.iter().filter(|format| FORMATS.contains(&format.format()));
    known.copied().max_by_key(|format| {
        let area = format.width() * format.height();
        let is_larger = format.width() > WANTED.0 || format.height() > WANTED.1;
        // A larger picture is better than one that is small for a tile, but each has to be scaled.
        let size = if is_larger { 640 * 360 - 1 } else { area };
        let rate = format.frame_rate();
        let is_colour = format.format() != FrameFormat::GRAY;
        let is_raw = format.format() != FrameFormat::MJPEG;
        (
            rate >= FLUENT,
            is_colour,
            size,
            std::cmp::Reverse(area),
            is_raw,
            std::cmp::Reverse(rate.abs_diff(30)),
        )
    })
}

/// A camera.
pub struct CameraSource(Watched);

impl CameraSource {
    /// Starts the camera with this id, or the first one there is. Pictures follow once the device is open; failures come out of
    /// [`VideoSource::next_frame`].
    ///
    /// # Errors
    /// When there is no such camera.
    pub fn open(id: Option<&str>) -> Result<Self, SourceError> {
        locate(id)?;
        Watched::start(Box::new(Chosen(id.map(str::to_owned))), Patience::default()).map(Self)
    }
}

impl VideoSource for CameraSource {
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<SharedFrame>, SourceError> {
        self.0.next_frame(stop)
    }
}

fn locate(id: Option<&str>) -> Result<CameraIndex, SourceError> {
    let mut found = find()?;
    if found.is_empty() {
        return Err(SourceError::NoCameras);
    }
    let Some(id) = id else { return Ok(found.remove(0).1) };
    let unknown = || SourceError::UnknownCamera(id.into());
    found
        .into_iter()
        .find(|(device, _)| device.id == id || device.name == id)
        .map(|(_, index)| index)
        .ok_or_else(unknown)
}

/// A camera by its id, or whichever comes first.
struct Chosen(Option<String>);

impl Device for Chosen {
    fn open(&self) -> Result<Box<dyn Pictures>, SourceError> {
        let (camera, format) = open_device(&locate(self.0.as_deref())?).map_err(SourceError::camera)?;
        let jpeg = MjpegDecoder::new().map_err(|error| SourceError::Camera(error.to_string()))?;
        Ok(Box::new(Streaming { camera, format, jpeg, pool: FramePool::default() }))
    }
}

struct Streaming {
    camera: Camera,
    format: CameraFormat,
    jpeg: MjpegDecoder,
    pool: FramePool,
}

impl Pictures for Streaming {
    fn next(&mut self) -> Result<I420Frame, SourceError> {
        let mut failures = 0;
        loop {
            let raw = self.camera.frame_raw().map_err(SourceError::camera)?;
            match convert(&raw, self.format, &mut self.jpeg, &self.pool) {
                // One broken picture is common on USB; a second of them is not.
                Err(_) if failures < MOST_BROKEN => failures += 1,
                result => return result,
            }
        }
    }
}

fn open_device(index: &CameraIndex) -> Result<(Camera, CameraFormat), NokhwaError> {
    let any = RequestedFormat::with_formats(RequestedFormatType::None, &FORMATS);
    let formats = Camera::new(index.clone(), any)?.compatible_camera_formats()?;
    let none = || NokhwaError::GeneralError("it has no format that is understood".into());
    let wanted = RequestedFormatType::Exact(choose(&formats).ok_or_else(none)?);
    let mut camera = Camera::new(index.clone(), RequestedFormat::with_formats(wanted, &FORMATS))?;
    camera.open_stream()?;
    let format = camera.camera_format();
    Ok((camera, format))
}

fn convert(
    raw: &[u8],
    format: CameraFormat,
    jpeg: &mut MjpegDecoder,
    pool: &FramePool,
) -> Result<I420Frame, SourceError> {
    let captured = Instant::now();
    let broken = |error: &dyn std::error::Error| SourceError::Camera(error.to_string());
    if format.format() == FrameFormat::MJPEG {
        return jpeg.decode(raw, pool, captured).map_err(|error| broken(&error));
    }
    let mut frame = pool.frame(format.width(), format.height(), captured)?;
    match format.format() {
        FrameFormat::NV12 => pixel::from_nv12(raw, &mut frame),
        FrameFormat::YUYV => pixel::from_yuyv(raw, &mut frame),
        FrameFormat::GRAY => pixel::from_gray(raw, &mut frame),
        _ => pixel::from_rgb(raw, &mut frame),
    }
    .map_err(|error| broken(&error))?;
    Ok(frame)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;

    fn format(width: u32, height: u32, format: FrameFormat, rate: u32) -> CameraFormat {
        CameraFormat::new_from(width, height, format, rate)
    }

    #[test]
    fn the_format_is_fluent_near_720p_and_raw_if_it_can_be() {
        use FrameFormat::{GRAY, MJPEG, NV12, RAWBGR, YUYV};
        let slow_raw = format(1280, 720, YUYV, 10);
        let jpeg = format(1280, 720, MJPEG, 30);
        let small = format(640, 480, YUYV, 30);
        let huge = format(1920, 1080, MJPEG, 30);
        let tiny = format(160, 120, YUYV, 30);
        let gray = format(1280, 720, GRAY, 30);
        assert_eq!(choose(&[slow_raw, small, jpeg, huge, gray]), Some(jpeg));
        let raw = format(1280, 720, NV12, 30);
        assert_eq!(choose(&[jpeg, raw, huge]), Some(raw));
        assert_eq!(choose(&[huge, small, tiny]), Some(small));
        assert_eq!(choose(&[huge, tiny]), Some(huge));
        assert_eq!(choose(&[raw, format(1280, 720, NV12, 60)]), Some(raw));
        assert_eq!(choose(&[slow_raw]), Some(slow_raw));
        assert_eq!(choose(&[format(1280, 720, RAWBGR, 30)]), None);
    }

    #[test]
    fn an_unknown_camera_is_named_in_a_sentence_with_a_code() {
        let error = CameraSource::open(Some("no such camera")).map(drop).unwrap_err();
        assert!(matches!(error.code(), "camera_missing" | "camera_unknown"), "{error}");
        assert!(error.is_final());
        assert!(cameras().is_ok());
    }

    #[test]
    fn raw_pictures_become_frames_and_short_ones_errors() {
        let mut jpeg = MjpegDecoder::new().unwrap();
        let pool = FramePool::default();
        for (kind, bytes) in [
            (FrameFormat::NV12, 4 * 2 * 3 / 2),
            (FrameFormat::YUYV, 4 * 2 * 2),
            (FrameFormat::RAWRGB, 4 * 2 * 3),
            (FrameFormat::GRAY, 4 * 2),
        ] {
            let format = format(4, 2, kind, 30);
            let frame = convert(&vec![128; bytes], format, &mut jpeg, &pool).unwrap();
            assert_eq!((frame.width(), frame.height()), (4, 2));
            assert!(convert(&vec![128; bytes - 1], format, &mut jpeg, &pool).is_err());
        }
        assert!(convert(b"no picture", format(4, 2, FrameFormat::MJPEG, 30), &mut jpeg, &pool).is_err());
    }
}
