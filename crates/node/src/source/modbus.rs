//! A source that asks a device for its registers, over Modbus TCP or a serial line (RTU).
//!
//! One register that the device refuses is missing, and the others go on. A device that does not answer at all is asked anew over a
//! new connection. A reading's time is when its first request was sent.

pub mod line;
pub mod map;

use std::time::Duration;

use tokio::time::timeout;
use tokio_modbus::ExceptionCode;
use tokio_modbus::client::{Context, Reader as _};

use super::bring::{Source, SourceError, wait_for};
use super::queue::{Batch, Event, Inlet, SourceState, Stopped};
use line::Line;
use map::{Register, Request, Table, WordOrder};

/// Which device, and what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusSettings {
    /// Where it is.
    pub line: Line,
    /// Which one there.
    pub unit: u8,
    /// How often it is asked.
    pub every: Duration,
    /// A request may take so long.
    pub timeout: Duration,
    /// How numbers of several words stand.
    pub order: WordOrder,
    /// Each channel's register.
    pub registers: Vec<(String, Register)>,
}

/// Asks.
pub struct Modbus {
    settings: ModbusSettings,
    registers: Vec<Register>,
    requests: Vec<Request>,
    refused: u64,
}

impl Modbus {
    /// A source.
    pub fn new(settings: ModbusSettings) -> Modbus {
        let registers: Vec<Register> =
            settings.registers.iter().map(|(_, register)| register.clone()).collect();
        let requests = map::plan(&registers);
        Modbus { settings, registers, requests, refused: 0 }
    }

    async fn ask(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        let ModbusSettings { line, unit, timeout, .. } = &self.settings;
        let mut context = line.connect(*unit, *timeout).await.map_err(SourceError::Outside)?;
        let channels = self.settings.registers.iter().map(|(name, _)| name.clone()).collect();
        inlet.tell(Event::Opened { channels })?;
        let every_ns = self.settings.every.as_nanos() as u64;
        let mut due_ns = inlet.clock().mono_ns();
        loop {
            let t_ms = inlet.clock().wall_ms();
            let values = self.read_all(&mut context, inlet).await?;
            let batch = Batch { t_ms: vec![t_ms], values };
            while !inlet.has_room(batch.t_ms.len() + batch.values.len()) {
                inlet.stirred().await;
                if inlet.stopping() {
                    return Err(Stopped.into());
                }
            }
            inlet.send(batch)?;
            // What was missed is not made up for: a device is not asked twice at once.
            let now_ns = inlet.clock().mono_ns();
            due_ns = (due_ns + every_ns).max(now_ns - now_ns.saturating_sub(due_ns) % every_ns.max(1));
            while inlet.clock().mono_ns() < due_ns {
                let wait = Duration::from_nanos(due_ns - inlet.clock().mono_ns());
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = inlet.stirred() => if inlet.stopping() {
                        return Err(Stopped.into());
                    },
                }
            }
        }
    }

    /// A value for each register; NaN where the device has none.
    async fn read_all(&mut self, context: &mut Context, inlet: &mut Inlet) -> Result<Vec<f64>, SourceError> {
        let mut values = vec![f64::NAN; self.registers.len()];
        let mut at = 0;
        while at < self.requests.len() {
            let request = self.requests[at].clone();
            match self.read(context, &request).await? {
                Ok(words) => {
                    for place in &request.registers {
                        let register = &self.registers[*place];
                        let from = usize::from(register.address - request.address);
                        let width = usize::from(register.kind.width());
                        values[*place] = register.value(&words[from..from + width], self.settings.order);
                    }
                    at += 1;
                }
                Err(_) if request.registers.len() > 1 => {
                    // One of them is not there: from now on each is asked for by itself.
                    let apart = map::apart(&request, &self.registers);
                    self.requests.splice(at..=at, apart);
                }
                Err(exception) => {
                    self.refuse(&request, exception, inlet)?;
                    at += 1;
                }
            }
        }
        Ok(values)
    }

    /// One request. The inner error is the device's own word.
    async fn read(
        &self,
        context: &mut Context,
        request: &Request,
    ) -> Result<Result<Vec<u16>, ExceptionCode>, SourceError> {
        let Request { table, address, count, .. } = request;
        let asked = async {
            let bits = |bits: Vec<bool>| bits.into_iter().map(u16::from).collect::<Vec<u16>>();
            match table {
                Table::Holding => context.read_holding_registers(*address, *count).await,
                Table::Input => context.read_input_registers(*address, *count).await,
                Table::Coil => context.read_coils(*address, *count).await.map(|read| read.map(bits)),
                Table::Discrete => {
                    context.read_discrete_inputs(*address, *count).await.map(|read| read.map(bits))
                }
            }
        };
        match timeout(self.settings.timeout, asked).await {
            Ok(Ok(Ok(words))) if words.len() == usize::from(*count) => Ok(Ok(words)),
            Ok(Ok(Ok(words))) => {
                let found = words.len();
                Err(SourceError::Outside(format!(
                    "the device gave {found} values of {count} from {table} {address}"
                )))
            }
            // A gateway says by these that the device behind it is away.
            Ok(Ok(Err(
                exception @ (ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice),
            ))) => Err(SourceError::Outside(format!(
                "the gateway does not reach unit {}: {exception}",
                self.settings.unit
            ))),
            Ok(Ok(Err(exception))) => Ok(Err(exception)),
            Ok(Err(error)) => Err(SourceError::Outside(format!("{table} {address}: {error}"))),
            Err(_) => Err(SourceError::Outside(format!(
                "unit {} did not answer for {table} {address} within {} s",
                self.settings.unit,
                self.settings.timeout.as_secs_f64()
            ))),
        }
    }

    /// Counts a register that the device does not give; the 1st, 10th, 100th time is told.
    fn refuse(&mut self, request: &Request, why: ExceptionCode, inlet: &mut Inlet) -> Result<(), Stopped> {
        self.refused += 1;
        inlet.set_refused(self.refused);
        if self.refused == 10u64.pow(self.refused.ilog10()) {
            let channel = request.registers.first().map_or("", |at| self.settings.registers[*at].0.as_str());
            let Request { table, address, .. } = request;
            let reason = format!("`{channel}` is missing: the device refuses {table} {address}: {why}");
            inlet.tell(Event::State { state: SourceState::Running, reason })?;
        }
        Ok(())
    }
}

impl Source for Modbus {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        // A connection that broke may have been to another device: it is asked together again.
        self.requests = map::plan(&self.registers);
        wait_for(self.ask(inlet))
    }
}
