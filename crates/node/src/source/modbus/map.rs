//! Which registers are which channels: `f32@100`, `i16@5*0.1`, `input u16@30+(-40)`, `coil@3`; and in which requests they are read.
//! Pure.
//!
//! Addresses count from 0, as they stand in the protocol: what a manual calls 40101 is holding register 100.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most registers, and the most bits, of one request (Modbus Application Protocol 1.1b3, 6.1–6.4).
const MAX_WORDS: u16 = 125;
const MAX_BITS: u16 = 2_000;
/// Registers between two wanted ones are read with them up to this: cheaper than another request.
const MAX_HOLE: u16 = 8;

/// A table of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Registers that can be written, function 3.
    Holding,
    /// Registers that can only be read, function 4.
    Input,
    /// Bits that can be written, function 1.
    Coil,
    /// Bits that can only be read, function 2.
    Discrete,
}

/// What stands in a register, or in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One bit of a table of bits.
    Bit,
    /// 16 bits.
    U16,
    /// 16 bits, two's complement.
    I16,
    /// 32 bits.
    U32,
    /// 32 bits, two's complement.
    I32,
    /// 64 bits.
    U64,
    /// 64 bits, two's complement.
    I64,
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 64 bits.
    F64,
}

/// In which order the words of a number stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WordOrder {
    /// The highest first.
    Big,
    /// The lowest first.
    Little,
}

/// One channel's register.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// Where.
    pub table: Table,
    /// From 0.
    pub address: u16,
    /// What.
    pub kind: Kind,
    /// The number is multiplied by this,
    pub scale: f64,
    /// then this is added.
    pub offset: f64,
}

/// One request: a run of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The table.
    pub table: Table,
    /// The first address.
    pub address: u16,
    /// How many registers or bits.
    pub count: u16,
    /// Places of the registers in it, in the list that was planned.
    pub registers: Vec<usize>,
}

impl Kind {
    const NAMED: [(&str, Kind); 8] = [
        ("u16", Kind::U16),
        ("i16", Kind::I16),
        ("u32", Kind::U32),
        ("i32", Kind::I32),
        ("u64", Kind::U64),
        ("i64", Kind::I64),
        ("f32", Kind::F32),
        ("f64", Kind::F64),
    ];

    /// How many registers (or bits) it takes.
    pub fn width(self) -> u16 {
        match self {
            Kind::Bit | Kind::U16 | Kind::I16 => 1,
            Kind::U32 | Kind::I32 | Kind::F32 => 2,
            Kind::U64 | Kind::I64 | Kind::F64 => 4,
        }
    }
}

impl Register {
    /// Reads what a flow says; the error says what is wrong with it.
    pub fn read(text: &str) -> Result<Register, String> {
        let form = "write \"f32@100\", \"i16@5*0.1\", \"input u16@30\", \"coil@3\" or \"discrete@4\"";
        let (what, place) =
            text.trim().split_once('@').ok_or_else(|| format!("{text:?} names no address: {form}"))?;
        let (table, kind) = match what.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["coil"] => (Table::Coil, Some(Kind::Bit)),
            ["discrete"] => (Table::Discrete, Some(Kind::Bit)),
            ["input", kind] => (Table::Input, named(kind)),
            ["holding", kind] | [kind] => (Table::Holding, named(kind)),
            _ => (Table::Holding, None),
        };
        let kind = kind.ok_or_else(|| format!("{:?} is no kind of register: {form}", what.trim()))?;
        let end = place.find(|c: char| !c.is_ascii_digit()).unwrap_or(place.len());
        let (address, mut rest) = (&place[..end], place[end..].trim());
        let address: u16 =
            address.parse().map_err(|_| format!("{address:?} is no address from 0 to 65535: {form}"))?;
        if u32::from(address) + u32::from(kind.width()) > 65_536 {
            return Err(format!("it reaches beyond the last address, 65535: {text:?}"));
        }
        let (mut scale, mut offset) = (1.0, 0.0);
        if let Some(factor) = rest.strip_prefix('*') {
            // The sign of an exponent is no offset.
            let end = factor
                .char_indices()
                .skip(1)
                .find(|(at, c)| matches!(c, '+' | '-') && !factor[..*at].ends_with(['e', 'E']))
                .map_or(factor.len(), |(at, _)| at);
            scale = finite(&factor[..end])?;
            rest = factor[end..].trim();
        }
        if !rest.is_empty() {
            let plain = rest.strip_prefix('+').unwrap_or(rest).trim();
            let plain = plain.strip_prefix('(').and_then(|inside| inside.strip_suffix(')')).unwrap_or(plain);
            if !rest.starts_with(['+', '-']) {
                return Err(format!("{rest:?} after the address is neither `*` nor `+`: {form}"));
            }
            offset = finite(plain)?;
        }
        if kind == Kind::Bit && (scale, offset) != (1.0, 0.0) {
            return Err("a bit is 0 or 1: it has no scale".to_owned());
        }
        Ok(Register { table, address, kind, scale, offset })
    }

    /// The number that the words of one register, in the order of the wire, stand for.
    pub fn value(&self, words: &[u16], order: WordOrder) -> f64 {
        let bits = match order {
            WordOrder::Big => words.iter().fold(0u64, |bits, word| bits << 16 | u64::from(*word)),
            WordOrder::Little => words.iter().rev().fold(0u64, |bits, word| bits << 16 | u64::from(*word)),
        };
        let number = match self.kind {
            Kind::Bit => (bits & 1) as f64,
            Kind::U16 | Kind::U32 | Kind::U64 => bits as f64,
            Kind::I16 => f64::from(bits as u16 as i16),
            Kind::I32 => f64::from(bits as u32 as i32),
            Kind::I64 => bits as i64 as f64,
            Kind::F32 => f64::from(f32::from_bits(bits as u32)),
            Kind::F64 => f64::from_bits(bits),
        };
        let value = number * self.scale + self.offset;
        // Devices say by infinity or NaN that a sensor is not there.
        if value.is_finite() { value } else { f64::NAN }
    }
    /// The words, in the order of the wire, by which the register stands for a number, as near as it can: [`Register::value`] the other
    /// way round. The error says why it cannot.
    pub fn words(&self, value: f64, order: WordOrder) -> Result<Vec<u16>, String> {
        let raw = (value - self.offset) / self.scale;
        let whole = |min: f64, max: f64| {
            let whole = raw.round();
            let fits = (min..=max).contains(&whole);
            fits.then_some(whole).ok_or_else(|| format!("{value} would be {raw}, which it cannot hold"))
        };
        let bits = match self.kind {
            Kind::Bit => whole(0.0, 1.0)? as u64,
            Kind::U16 => whole(0.0, f64::from(u16::MAX))? as u64,
            Kind::I16 => u64::from(whole(f64::from(i16::MIN), f64::from(i16::MAX))? as i16 as u16),
            Kind::U32 => whole(0.0, f64::from(u32::MAX))? as u64,
            Kind::I32 => u64::from(whole(f64::from(i32::MIN), f64::from(i32::MAX))? as i32 as u32),
            // Beyond 2^53 a number is not exact anyway.
            Kind::U64 => whole(0.0, (1u64 << 53) as f64)? as u64,
            Kind::I64 => whole(-((1i64 << 53) as f64), (1i64 << 53) as f64)? as i64 as u64,
            Kind::F32 if (raw as f32).is_finite() => u64::from((raw as f32).to_bits()),
            Kind::F64 if raw.is_finite() => raw.to_bits(),
            Kind::F32 | Kind::F64 => return Err(format!("{value} would be {raw}, which it cannot hold")),
        };
        let width = usize::from(self.kind.width());
        let mut words: Vec<u16> = (0..width).rev().map(|at| (bits >> (16 * at)) as u16).collect();
        if order == WordOrder::Little {
            words.reverse();
        }
        Ok(words)
    }

    /// How far the number that it gives back may be from a number of at most this size that it was given.
    pub fn coarseness(&self, largest: f64) -> f64 {
        match self.kind {
            Kind::F64 => 0.0,
            // Half of the last of 24 bits.
            Kind::F32 => (largest.abs() + self.offset.abs()) * 2f64.powi(-24),
            _ => self.scale.abs() / 2.0,
        }
    }
}

fn named(word: &str) -> Option<Kind> {
    Kind::NAMED.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind)
}

fn finite(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("{text:?} is no number"))
}

/// Joins registers that lie near one another into requests.
pub fn plan(registers: &[Register]) -> Vec<Request> {
    let mut order: Vec<usize> = (0..registers.len()).collect();
    order.sort_by_key(|at| (registers[*at].table, registers[*at].address));
    let mut requests: Vec<Request> = Vec::new();
    for at in order {
        let Register { table, address, kind, .. } = registers[at];
        let end = u32::from(address) + u32::from(kind.width());
        let most = if kind == Kind::Bit { MAX_BITS } else { MAX_WORDS };
        if let Some(last) = requests.last_mut()
            && last.table == table
            && u32::from(address) <= u32::from(last.address) + u32::from(last.count) + u32::from(MAX_HOLE)
            && end - u32::from(last.address) <= u32::from(most)
        {
            last.count = last.count.max((end - u32::from(last.address)) as u16);
            last.registers.push(at);
            continue;
        }
        requests.push(Request { table, address, count: kind.width(), registers: vec![at] });
    }
    requests
}

/// A request for each register alone: for a device that refuses one of them.
pub fn apart(request: &Request, registers: &[Register]) -> Vec<Request> {
    let alone = |at: &usize| {
        let Register { table, address, kind, .. } = registers[*at];
        Request { table, address, count: kind.width(), registers: vec![*at] }
    };
    request.registers.iter().map(alone).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Table::Holding => "holding register",
            Table::Input => "input register",
            Table::Coil => "coil",
            Table::Discrete => "discrete input",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(text: &str) -> Register {
        Register::read(text).unwrap()
    }

    #[test]
    fn what_a_flow_says() {
        fn check(text: &str, expected: Result<(Table, u16, Kind, f64, f64), &str>) {
            match (Register::read(text), expected) {
                (Ok(Register { table, address, kind, scale, offset }), Ok(expected)) => {
                    assert_eq!((table, address, kind, scale, offset), expected, "{text}");
                }
                (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        check("f32@100", Ok((Table::Holding, 100, Kind::F32, 1.0, 0.0)));
        check("i16@5*0.1", Ok((Table::Holding, 5, Kind::I16, 0.1, 0.0)));
        check("input u16@30*1e-1+(-40)", Ok((Table::Input, 30, Kind::U16, 0.1, -40.0)));
        check("holding u32@0-40", Ok((Table::Holding, 0, Kind::U32, 1.0, -40.0)));
        check(" u16@7 * 2 + 3 ", Ok((Table::Holding, 7, Kind::U16, 2.0, 3.0)));
        check("coil@3", Ok((Table::Coil, 3, Kind::Bit, 1.0, 0.0)));
        check("discrete@65535", Ok((Table::Discrete, 65_535, Kind::Bit, 1.0, 0.0)));
        check("f32", Err("names no address"));
        check("f16@1", Err("\"f16\" is no kind"));
        check("input coil@1", Err("is no kind"));
        check("u16@65536", Err("no address"));
        check("f64@65533", Err("beyond the last"));
        check("u16@x", Err("no address"));
        check("u16@1/2", Err("neither"));
        check("u16@1*x", Err("no number"));
        check("coil@1*2", Err("no scale"));
    }

    #[test]
    fn values() {
        let check = |text: &str, words: &[u16], order, expected: f64| {
            let found = register(text).value(words, order);
            assert!(found == expected || found.is_nan() && expected.is_nan(), "{text}: {found}");
        };
        let (big, little) = (WordOrder::Big, WordOrder::Little);
        check("f32@0", &[0x40b9, 0x999a], big, f64::from(5.8f32));
        check("f32@0", &[0x999a, 0x40b9], little, f64::from(5.8f32));
        check("f64@0", &[0x4009, 0x21fb, 0x5444, 0x2d18], big, std::f64::consts::PI);
        check("i16@0*0.1", &[0xff38], big, -20.0);
        check("u16@0", &[0xff38], big, 65_336.0);
        check("i32@0", &[0xffff, 0xfffe], big, -2.0);
        check("u32@0", &[2, 1], little, 65_538.0);
        check("i64@0", &[0xffff, 0xffff, 0xffff, 0xfffd], big, -3.0);
        check("u16@0*2+(-40)", &[30], big, 20.0);
        check("f32@0", &[0x7fc0, 0], big, f64::NAN);
        check("f32@0", &[0x7f80, 0], big, f64::NAN);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let check = |text: &str, value: f64, order, expected: Result<&[u16], ()>| {
            let register = register(text);
            let words = register.words(value, order);
            assert_eq!(words.as_deref().map_err(|_| ()), expected, "{text} {value}: {words:?}");
            if let Ok(words) = words {
                let back = register.value(&words, order);
                assert!((back - value).abs() <= register.coarseness(value) + 1e-12, "{text} {value}: {back}");
            }
        };
        let (big, little) = (WordOrder::Big, WordOrder::Little);
        check("f32@0", 5.8, big, Ok(&[0x40b9, 0x999a]));
        check("f32@0", 5.8, little, Ok(&[0x999a, 0x40b9]));
        check("f64@0", std::f64::consts::PI, big, Ok(&[0x4009, 0x21fb, 0x5444, 0x2d18]));
        check("i16@0*0.1", -20.0, big, Ok(&[0xff38]));
        check("u16@0*0.5", 33.3, big, Ok(&[67]));
        check("i32@0", -2.0, big, Ok(&[0xffff, 0xfffe]));
        check("u32@0", 65_538.0, little, Ok(&[2, 1]));
        check("i64@0", -3.0, big, Ok(&[0xffff, 0xffff, 0xffff, 0xfffd]));
        check("u16@0*2+(-40)", 20.0, big, Ok(&[30]));
        check("coil@0", 1.0, big, Ok(&[1]));
        check("coil@0", 2.0, big, Err(()));
        check("u16@0", -1.0, big, Err(()));
        check("u16@0", 65_536.0, big, Err(()));
        check("u16@0", f64::NAN, big, Err(()));
        check("f32@0", 1e300, big, Err(()));
        check("f64@0", f64::INFINITY, big, Err(()));
    }

    #[test]
    fn near_ones_are_read_together() {
        let registers: Vec<Register> =
            ["f32@104", "f32@100", "f32@102", "u16@115", "u16@300", "input u16@106", "coil@1", "coil@9"]
                .map(register)
                .to_vec();
        let short: Vec<_> = plan(&registers)
            .iter()
            .map(|request| (request.table, request.address, request.count, request.registers.clone()))
            .collect();
        let expected = [
            (Table::Holding, 100, 6, vec![1, 2, 0]),
            (Table::Holding, 115, 1, vec![3]),
            (Table::Holding, 300, 1, vec![4]),
            (Table::Input, 106, 1, vec![5]),
            (Table::Coil, 1, 9, vec![6, 7]),
        ];
        assert_eq!(short, expected);
        let many: Vec<Register> = (0..200).map(|at| register(&format!("u16@{at}"))).collect();
        let plan = plan(&many);
        assert_eq!(plan.iter().map(|request| request.count).collect::<Vec<_>>(), [125, 75]);
        assert_eq!(apart(&plan[1], &many).len(), 75);
    }
}
