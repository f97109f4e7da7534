//! Pickles, as far as checkpoints hold them: what one would build is written down, and nothing is built.
//!
//! No class is looked up and no function called. Objects are numbered in the order in which they come,
//! so that what a pickle nests without end, or has hold itself, is a list of numbers like any other. By
//! [the standard library's description](https://github.com/python/cpython/blob/main/Lib/pickletools.py),
//! protocols 2 to 5.

use std::collections::HashMap;

/// The most objects: a tensor takes about twenty.
const MAX_OBJECTS: usize = 2 << 20;

/// The longest name of a class; written once, it may be asked for by two bytes again and again.
const MAX_NAME: usize = 1024;

/// The number of an object.
pub(super) type Id = u32;

/// What a pickle writes down.
#[derive(Debug)]
pub(super) enum Object<'a> {
    /// What is of no interest: `None`, numbers that are no small integers, bytes, sets.
    Other,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    /// A class or a function: its module, a space, its name.
    Global(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// A dictionary; or an object that a function would have made, with what it would hold by keys.
    Dict {
        /// The function and its arguments.
        made_by: Option<(Id, Id)>,
        items: Vec<(Id, Id)>,
    },
    /// What is stored elsewhere, under this name.
    Elsewhere(Id),
}

/// A pickle's objects.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: Id,
}

const OTHER: Id = 0;
const FALSE: Id = 1;
const TRUE: Id = 2;
const EMPTY_TUPLE: Id = 3;

impl<'a> Pickle<'a> {
    /// Reads a whole pickle.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let constants =
            vec![Object::Other, Object::Bool(false), Object::Bool(true), Object::Tuple(Vec::new())];
        let mut machine = Machine {
            rest: bytes,
            objects: constants,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { objects: machine.objects, root })
    }

    /// What it would build.
    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn object(&self, id: Id) -> &Object<'a> {
        &self.objects[id as usize]
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.object(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn global(&self, id: Id) -> Option<&str> {
        match self.object(id) {
            Object::Global(name) => Some(name),
            _ => None,
        }
    }

    /// An integer that is not negative.
    pub(super) fn count(&self, id: Id) -> Option<u64> {
        match self.object(id) {
            Object::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.object(id) {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Integers that are not negative, of a tuple of at most so many.
    pub(super) fn counts(&self, id: Id, most: usize) -> Option<Vec<u64>> {
        let items = self.tuple(id).filter(|items| items.len() <= most)?;
        items.iter().map(|&item| self.count(item)).collect()
    }

    /// What a dictionary, or what is like one, holds under its keys.
    pub(super) fn items(&self, id: Id) -> &[(Id, Id)] {
        match self.object(id) {
            Object::Dict { items, .. } => items,
            _ => &[],
        }
    }

    /// The function that would have made an object, and its arguments.
    pub(super) fn made_by(&self, id: Id) -> Option<(&str, &[Id])> {
        match self.object(id) {
            Object::Dict { made_by: Some((function, arguments)), .. } => {
                Some((self.global(*function)?, self.tuple(*arguments)?))
            }
            _ => None,
        }
    }
}

/// Carries out what a pickle says.
struct Machine<'a> {
    rest: &'a [u8],
    objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Carries out one operation; `false` at the end.
    fn step(&mut self) -> Result<bool, String> {
        let [operation] = *self.take(1)? else { return Ok(false) };
        match operation {
            b'.' => return Ok(false),
            // The protocol, and how much follows: nothing hangs on them.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(OTHER),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.put(Object::Int(number.into()))?;
            }
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => {
                self.take(8)?;
                self.stack.push(OTHER);
            }
            0x8c => self.unicode(1)?,
            b'X' => self.unicode(4)?,
            0x8d => self.unicode(8)?,
            // Bytes, and texts of an older Python.
            b'U' | b'C' => self.bytes(1)?,
            b'T' | b'B' => self.bytes(4)?,
            0x8e | 0x96 => self.bytes(8)?,
            b')' => self.stack.push(EMPTY_TUPLE),
            b't' => {
                let items = self.since_mark()?;
                self.put(Object::Tuple(items))?;
            }
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(operation - 0x84));
                let start = start.filter(|&start| start >= self.floor()).ok_or(EMPTY)?;
                let items = self.stack.split_off(start);
                self.put(Object::Tuple(items))?;
            }
            b']' => self.put(Object::List(Vec::new()))?,
            b'l' => {
                let items = self.since_mark()?;
                self.put(Object::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b'}' => self.put(Object::Dict { made_by: None, items: Vec::new() })?,
            b'd' => {
                let items = self.since_mark()?;
                self.put(Object::Dict { made_by: None, items: Vec::new() })?;
                self.set(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(items)?;
            }
            // Sets hold nothing of interest.
            0x8f => self.put(Object::Other)?,
            0x90 => drop(self.since_mark()?),
            0x91 => {
                self.since_mark()?;
                self.stack.push(OTHER);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id: Id| match self.objects[id as usize] {
                    Object::Text(text) => Ok(text),
                    _ => Err("the name of a class is no text"),
                };
                self.global(text(module)?, text(name)?)?;
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.put(Object::Dict { made_by: Some((function, arguments)), items: Vec::new() })?;
            }
            0x92 => {
                let (_, arguments, function) = (self.pop()?, self.pop()?, self.pop()?);
                self.put(Object::Dict { made_by: Some((function, arguments)), items: Vec::new() })?;
            }
            // An object's state, which would be handed to its class.
            b'b' => {
                self.pop()?;
                self.top()?;
            }
            b'Q' => {
                let name = self.pop()?;
                self.put(Object::Elsewhere(name))?;
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => {
                let (at, top) = (self.memo.len() as u32, self.top()?);
                self.memo.insert(at, top);
            }
            other => {
                return Err(format!(
                    "its pickle has the operation {other:#04x}, which is not read"
                ));
            }
        }
        Ok(true)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let count = usize::try_from(count).ok();
        let (taken, rest) = count
            .and_then(|count| self.rest.split_at_checked(count))
            .ok_or("its pickle does not end")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| EMPTY.into())
    }

    /// A number of so many bytes, at most eight.
    fn number(&mut self, size: u64) -> Result<u64, String> {
        let mut wide = [0; 8];
        let bytes = self.take(size)?;
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(wide))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or("its pickle does not end")? as u64)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| "the name of a class is no text".into())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        if module.len() + name.len() > MAX_NAME {
            return Err(format!("the name of a class has more than {MAX_NAME} bytes"));
        }
        self.put(Object::Global(format!("{module} {name}")))
    }

    fn put(&mut self, object: Object<'a>) -> Result<(), String> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(format!("its pickle has more than {MAX_OBJECTS} objects"));
        }
        self.stack.push(self.objects.len() as Id);
        self.objects.push(object);
        Ok(())
    }

    fn int(&mut self, size: u64) -> Result<(), String> {
        let number = self.number(size)?;
        self.put(Object::Int(number as i64))
    }

    fn long(&mut self, size: u64) -> Result<(), String> {
        let length = self.number(size)?;
        let bytes = self.take(length)?;
        if bytes.len() > 8 {
            self.stack.push(OTHER);
            return Ok(());
        }
        // The highest bit is the sign.
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.put(Object::Int(i64::from_le_bytes(wide)))
    }

    fn unicode(&mut self, size: u64) -> Result<(), String> {
        let length = self.number(size)?;
        // A lone surrogate, which Python may write, is no text.
        let object = std::str::from_utf8(self.take(length)?).map_or(Object::Other, Object::Text);
        self.put(object)
    }

    fn bytes(&mut self, size: u64) -> Result<(), String> {
        let length = self.number(size)?;
        // Python 2 wrote its texts so.
        let object = std::str::from_utf8(self.take(length)?).map_or(Object::Other, Object::Text);
        self.put(object)
    }

    /// What no operation may take from: the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, String> {
        match self.stack.len() > self.floor() {
            true => self.stack.pop().ok_or_else(|| EMPTY.into()),
            false => Err(EMPTY.into()),
        }
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| EMPTY.into())
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("its pickle has an end without a beginning")?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, mut items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        if let Object::List(all) = &mut self.objects[list as usize] {
            all.append(&mut items);
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Id>) -> Result<(), String> {
        let dict = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("its pickle has a key without a value".into());
        }
        if let Object::Dict { items, .. } = &mut self.objects[dict as usize] {
            items.extend(pairs.iter().map(|&[key, value]| (key, value)));
        }
        Ok(())
    }

    fn get(&mut self, size: u64) -> Result<(), String> {
        let at = self.number(size)? as u32;
        let known = self.memo.get(&at).copied();
        self.stack.push(known.ok_or("its pickle uses what it has not made")?);
        Ok(())
    }

    fn remember(&mut self, size: u64) -> Result<(), String> {
        let (at, top) = (self.number(size)? as u32, self.top()?);
        self.memo.insert(at, top);
        Ok(())
    }
}

const EMPTY: &str = "its pickle takes more than there is";

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(bytes: &[u8]) -> String {
        Pickle::read(bytes).unwrap_err()
    }

    #[test]
    fn what_is_written_is_found_again() {
        // {"a": (1, -1, 70000, True), **[...]}, memoised and fetched.
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00a(K\x01J\xff\xff\xff\xff\x8a\x03\x70\x11\x01\x88tq\x01X\x01\x00\x00\x00bh\x01u.";
        let pickle = Pickle::read(bytes).unwrap();
        let items = pickle.items(pickle.root());
        let names: Vec<_> = items.iter().map(|&(key, _)| pickle.text(key).unwrap()).collect();
        assert_eq!((names, items[0].1), (vec!["a", "b"], items[1].1));
        let numbers: Vec<_> =
            pickle.tuple(items[0].1).unwrap().iter().map(|&n| pickle.count(n)).collect();
        assert_eq!(numbers, [Some(1), None, Some(70000), None]);
    }

    #[test]
    fn nothing_is_called_and_what_would_be_is_told() {
        let pickle = Pickle::read(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap();
        let (function, arguments) = pickle.made_by(pickle.root()).unwrap();
        assert_eq!((function, pickle.text(arguments[0])), ("posix system", Some("ls")));
    }

    #[test]
    fn what_is_written_once_and_used_again_and_again_stays_small() {
        // Two texts of 600 bytes, remembered, and named as a class.
        let text = [&b"X\x58\x02\x00\x00"[..], &[b'a'; 600], b"\x94"].concat();
        let pickle = [b"\x80\x04", &text[..], &text, b"\x93."].concat();
        assert!(wrong(&pickle).contains("name of a class"));
        let sides = Pickle::read(b"\x80\x02(K\x01K\x02K\x03t.").unwrap();
        assert_eq!(sides.counts(sides.root(), 3), Some(vec![1, 2, 3]));
        assert_eq!(sides.counts(sides.root(), 2), None);
    }

    #[test]
    fn what_is_no_pickle_is_an_error() {
        assert!(wrong(b"").contains("does not end"));
        assert!(wrong(b"\x80\x02").contains("does not end"));
        assert!(wrong(b".").contains("takes more"));
        assert!(wrong(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.").contains("does not end"));
        assert!(wrong(b"(\x85.").contains("takes more"));
        assert!(wrong(b"h\x07.").contains("has not made"));
        assert!(wrong(b"t.").contains("without a beginning"));
        assert!(wrong(b"}(Nu.").contains("without a value"));
        assert!(wrong(b"P1\n.").contains("0x50"));
        assert!(wrong(&b"]".repeat(MAX_OBJECTS)).contains("objects"));
    }

    #[test]
    fn what_holds_itself_or_is_nested_deep_is_like_any_other() {
        let mut bytes = b"}q\x00X\x01\x00\x00\x00ah\x00s".to_vec();
        bytes.extend(b"\x85".repeat(100_000));
        bytes.push(b'.');
        let pickle = Pickle::read(&bytes).unwrap();
        assert_eq!(pickle.tuple(pickle.root()).unwrap().len(), 1);
    }
}
