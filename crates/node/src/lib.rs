//! The agent on the device: readings come in, a detector and rules look at them, what they decide is journalled, and
//! the journal finds its way up when there is one. Local work never waits for the network or the wall clock.
//!
//! In reading order. What the node is told:
//!
//! - [`config`]: `node.toml`; [`flow`]: the graph of sources, models and rules.
//!
//! Thinking, pure but for the sources:
//!
//! - [`source`]: the world → readings; [`mqtt`]: brokers, for sources and sinks;
//! - [`health`]: readings → those that can be believed; [`feature`]: samples → numbers that say more;
//! - [`model`]: readings → verdicts, and the two ends of an anomaly; [`network`]: windows and pictures → answers of ONNX networks,
//!   whose boxes [`crossing`] counts;
//! - [`board`]: the latest value of each field that conditions speak of; [`expression`]: conditions over it;
//! - [`decide`]: values → decisions;
//! - [`pipeline`]: the stations of one flow in a row; [`play`] runs them over files, without a journal and threads.
//!   [`specimen`]: machines and hearts that do not exist, to try it on.
//!
//! Remembering:
//!
//! - [`journal`]: drafts → records, numbered, chained, on disk;
//! - [`sink`]: records → brokers, web addresses, collectors, files; [`report`]: a shift's records → plain words;
//! - [`sync`]: which records go up next, decided purely; [`uplink`] carries them;
//! - [`identity`]: who this node is to its hub; [`judged`]: by which time certificates are judged; [`via`]: which way it goes there;
//! - [`relay`]: the way to the hub for nodes behind this one; [`pace`] keeps a rate.
//!
//! Language models, unless this is a build without (feature `language`):
//!
//! - [`shelf`]: the models on this machine; [`pull`] brings them here;
//! - [`serve`]: an OpenAI-compatible server over them.
//!
//! Releases of networks, flows and language models, unless this is a build without (feature `packages`):
//!
//! - [`trust`]: who may say that a release is genuine; [`transfer`] brings its blobs, over [`web`];
//! - [`assignments`]: who shall run what; [`desired`]: what the hub hands out at check-ins; [`install`]: how a release becomes the current model, and how the node gets back
//!   when it is no good; [`device`] says what this node can prove, [`inventory`] what it is, [`behaviour`] how its models do;
//!   [`zone`]: its own time.
//!
//! Keeping on:
//!
//! - [`progress`]: whether the threads get anywhere; [`supervise`]: whether the process does; [`pressure`]: what is given up
//!   when memory, disk or cooling run short; [`doctor`]: what is wrong, on one page.
//!
//! Both joined: [`agent`], with [`keep`] for what models have learnt (on [`durable`] files, as the shelf), [`api`] for apps on this machine,
//! [`control`] for people on it, [`status`] for who asks how it is (as text for Prometheus, too), and [`latency`] for how quick it is.

#![forbid(unsafe_code)]

pub mod act;
pub mod agent;
pub mod api;
#[cfg(feature = "packages")]
pub mod assignments;
#[cfg(feature = "packages")]
pub mod behaviour;
pub mod board;
pub mod config;
#[cfg(feature = "packages")]
pub mod control;
pub mod crossing;
pub mod decide;
pub mod desired;
#[cfg(feature = "packages")]
pub mod device;
pub mod doctor;
pub mod durable;
pub mod expression;
pub mod feature;
pub mod flow;
pub mod health;
pub mod identity;
#[cfg(feature = "packages")]
pub mod install;
pub mod inventory;
pub mod journal;
pub mod judged;
pub mod keep;
pub mod latency;
pub mod model;
pub mod mqtt;
pub mod network;
pub mod pace;
pub mod pipeline;
pub mod play;
pub mod policy;
pub mod pressure;
pub mod progress;
pub(crate) mod prometheus;
#[cfg(feature = "language")]
pub mod pull;
pub mod relay;
pub mod report;
#[cfg(feature = "language")]
pub mod serve;
#[cfg(feature = "language")]
pub mod shelf;
pub mod sink;
pub mod source;
pub mod specimen;
pub mod status;
pub mod supervise;
pub mod sync;
#[cfg(feature = "packages")]
pub mod transfer;
#[cfg(feature = "packages")]
pub mod trust;
pub mod uplink;
pub mod via;
#[cfg(feature = "packages")]
pub mod web;
pub mod why;
pub mod zone;
