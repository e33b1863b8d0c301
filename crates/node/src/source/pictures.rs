//! Sources of pictures: a folder, a camera that streams, a camera behind a program.
//!
//! In reading order: [`settings`] is what a flow says of them; [`folder`] takes files, each once, by what [`seen`] remembers;
//! [`camera`] takes what a program prints, cut into pictures by [`mjpeg`] or made of [`yuyv`]; [`rtsp`] calls a camera over the network,
//! dates its pictures by [`stamps`], and is there only in a build with the feature `cameras`; both show them through `eye`.

pub mod camera;
mod eye;
pub mod folder;
pub mod mjpeg;
#[cfg(feature = "cameras")]
pub mod rtsp;
#[cfg(not(feature = "cameras"))]
#[path = "pictures/no_rtsp.rs"]
pub mod rtsp;
pub mod seen;
pub mod settings;
pub mod stamps;
pub mod yuyv;
