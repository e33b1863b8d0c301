//! A device of Modbus: a coil or registers are written, and read back.
//!
//! A connection over TCP is kept. A serial line has one master at a time: it is opened for each request, and devices on the same line
//! wait for one another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};
use tokio_modbus::client::{Context, Reader as _, Writer as _};
use wire::body::act::Setting;

use super::face::{Device, DeviceError};
use crate::act::limits::Allowed;
use crate::source::modbus::line::Line;
use crate::source::modbus::map::{Register, Table, WordOrder};

/// Which device, what is written and read, and how long it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Modbus {
    /// Where it is.
    pub line: Line,
    /// Which one there.
    pub unit: u8,
    /// How numbers of several words stand.
    pub order: WordOrder,
    /// What is written: a coil or holding registers.
    pub register: Register,
    /// What is read.
    pub read: Register,
    /// The number that each word stands for; none if it is set to numbers.
    pub codes: Vec<(String, f64)>,
    /// Each request ends within this.
    pub timeout_ms: u64,
}

/// The device.
pub(super) struct Unit {
    modbus: Modbus,
    allowed: Allowed,
    runtime: Runtime,
    /// The connection over TCP that is kept.
    kept: Option<Context>,
}

/// One request.
#[derive(Clone, Copy)]
enum Asked<'w> {
    Write(&'w [u16]),
    Read,
}

/// The serial lines on which a request is under way.
static LINES: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());

impl Unit {
    pub(super) fn open(modbus: &Modbus, allowed: &Allowed) -> Result<Unit, DeviceError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|error| DeviceError::Web { host: modbus.line.to_string(), why: error.to_string() })?;
        Ok(Unit { modbus: modbus.clone(), allowed: allowed.clone(), runtime, kept: None })
    }

    /// Asks; gives the words of what was read.
    fn call(&mut self, asked: Asked<'_>) -> Result<Vec<u16>, DeviceError> {
        let Unit { modbus, runtime, kept, .. } = self;
        let host = modbus.line.to_string();
        let limit = Duration::from_millis(modbus.timeout_ms);
        let all = async {
            let failed = |why: String| DeviceError::Web { host: host.clone(), why };
            let Line::Rtu(port) = &modbus.line else {
                if let Some(mut context) = kept.take()
                    && let Ok(answer) = ask(&mut context, modbus, asked).await
                {
                    *kept = Some(context);
                    return answer;
                }
                // There is none, or it was closed meanwhile. What may have been written is written again, and is the same.
                let mut context = modbus.line.connect(modbus.unit, limit).await.map_err(failed)?;
                let answer = ask(&mut context, modbus, asked).await.map_err(failed)?;
                *kept = Some(context);
                return answer;
            };
            let line = line(&port.device);
            let _alone = line.lock().await;
            let mut context = modbus.line.connect(modbus.unit, limit).await.map_err(failed)?;
            sleep(silence(port.baud)).await;
            ask(&mut context, modbus, asked).await.map_err(failed)?
        };
        let ended = runtime.block_on(async { timeout(limit, all).await });
        ended.unwrap_or_else(|_| {
            let what = format!("unit {} at {host}", self.modbus.unit);
            Err(DeviceError::Slow { what, limit_ms: self.modbus.timeout_ms })
        })
    }

    /// The number that is written for a setting.
    fn number(&self, to: &Setting) -> Result<f64, DeviceError> {
        match to {
            Setting::Number(number) => Ok(*number),
            Setting::Word(word) => {
                let code = self.modbus.codes.iter().find(|(known, _)| known == word).map(|(_, code)| *code);
                code.ok_or_else(|| DeviceError::Answer { why: format!("{word:?} has no code") })
            }
        }
    }

    /// The setting that was read.
    fn setting(&self, number: f64) -> Result<Setting, DeviceError> {
        let refuse = |why: String| DeviceError::Answer { why };
        match &self.allowed {
            Allowed::Range { .. } if number.is_finite() => Ok(Setting::Number(number)),
            Allowed::Range { .. } => Err(refuse(format!("{} is no number", place(&self.modbus.read)))),
            Allowed::Words(_) => {
                let near = self.modbus.read.coarseness(number) + 1e-9;
                let word = self.modbus.codes.iter().find(|(_, code)| (code - number).abs() <= near);
                let none = || refuse(format!("{number} is none of its codes"));
                word.map(|(word, _)| Setting::Word(word.clone())).ok_or_else(none)
            }
        }
    }
}

/// The lock of a serial line.
fn line(device: &Path) -> Arc<tokio::sync::Mutex<()>> {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(lines.entry(device.to_owned()).or_default())
}

/// The silence between two frames: three and a half characters of 11 bits, at least 1.75 ms (Modbus over serial line 1.02, 2.5.1.1).
fn silence(baud: u32) -> Duration {
    Duration::from_secs_f64((38.5 / f64::from(baud.max(1))).max(0.001_75))
}

fn place(register: &Register) -> String {
    format!("{} {}", register.table, register.address)
}

/// One request. The outer error is the connection's, the inner one the device's own word.
async fn ask(
    context: &mut Context,
    modbus: &Modbus,
    asked: Asked<'_>,
) -> Result<Result<Vec<u16>, DeviceError>, String> {
    let register = match asked {
        Asked::Write(_) => &modbus.register,
        Asked::Read => &modbus.read,
    };
    let (at, width) = (register.address, register.kind.width());
    let bits = |bits: Vec<bool>| bits.into_iter().map(u16::from).collect::<Vec<u16>>();
    let answer = match (asked, register.table) {
        (Asked::Write(words), Table::Coil) => {
            let on = words.first().is_some_and(|word| *word != 0);
            context.write_single_coil(at, on).await.map(|done| done.map(|()| Vec::new()))
        }
        (Asked::Write([word]), _) => {
            context.write_single_register(at, *word).await.map(|done| done.map(|()| Vec::new()))
        }
        (Asked::Write(words), _) => {
            context.write_multiple_registers(at, words).await.map(|done| done.map(|()| Vec::new()))
        }
        (Asked::Read, Table::Holding) => context.read_holding_registers(at, width).await,
        (Asked::Read, Table::Input) => context.read_input_registers(at, width).await,
        (Asked::Read, Table::Coil) => context.read_coils(at, 1).await.map(|read| read.map(bits)),
        (Asked::Read, Table::Discrete) => {
            context.read_discrete_inputs(at, 1).await.map(|read| read.map(bits))
        }
    };
    let place = place(register);
    match answer {
        Err(error) => Err(format!("{place}: {error}")),
        Ok(Err(exception)) => Ok(Err(DeviceError::Denied { place, why: exception.to_string() })),
        Ok(Ok(words)) if matches!(asked, Asked::Read) && words.len() != usize::from(width) => {
            let why = format!("{place} gave {} values of {width}", words.len());
            Ok(Err(DeviceError::Answer { why }))
        }
        Ok(Ok(words)) => Ok(Ok(words)),
    }
}

impl Device for Unit {
    fn set(&mut self, to: &Setting) -> Result<(), DeviceError> {
        let number = self.number(to)?;
        let words = self.modbus.register.words(number, self.modbus.order);
        let words = words.map_err(|why| DeviceError::Denied { place: place(&self.modbus.register), why })?;
        self.call(Asked::Write(&words)).map(drop)
    }

    fn read(&mut self) -> Result<Option<Setting>, DeviceError> {
        let words = self.call(Asked::Read)?;
        let number = self.modbus.read.value(&words, self.modbus.order);
        self.setting(number).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_for_numbers() {
        let register = Register::read("u16@10").unwrap();
        let modbus = Modbus {
            line: Line::Tcp { host: "127.0.0.1".into(), port: 1 },
            unit: 1,
            order: WordOrder::Big,
            register: register.clone(),
            read: register,
            codes: vec![("closed".into(), 0.0), ("open".into(), 255.0)],
            timeout_ms: 100,
        };
        let words = Allowed::Words(vec!["closed".into(), "open".into()]);
        let unit = Unit::open(&modbus, &words).unwrap();
        let open = Setting::Word("open".into());
        assert_eq!(unit.number(&open).unwrap(), 255.0);
        assert_eq!(unit.setting(255.0).unwrap(), open);
        assert!(unit.setting(7.0).unwrap_err().to_string().contains("7 is none of its codes"));
        assert!(unit.number(&Setting::Word("ajar".into())).is_err());
        let range = Unit::open(&modbus, &Allowed::Range { min: 0.0, max: 10.0 }).unwrap();
        assert_eq!(range.setting(11.0).unwrap(), Setting::Number(11.0), "what it says is told as it is");
        assert!(range.setting(f64::NAN).is_err());
    }
}
