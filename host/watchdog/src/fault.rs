//! Faults that tests order: in debug builds the owner of a pulse can be made to panic or to hang.
//! Release builds have nothing of it.

/// A place where tests can order a fault; every beat of a [`crate::Pulse`] is one.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn at(_name: &str) {}

/// Does what a test has ordered: `TIDEGATE_TEST_FAULT` is `panic:FILE:NAME` or `hang:FILE:NAME`, and it
/// happens at each beat of the pulse `NAME` while there is `FILE`.
#[cfg(debug_assertions)]
pub fn at(name: &str) {
    let Some(fault) = &*ordered::FAULT else {
        return;
    };
    if name == fault.name && fault.trigger.exists() {
        fault.happen();
    }
}

#[cfg(debug_assertions)]
mod ordered {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    pub(super) static FAULT: LazyLock<Option<Fault>> = LazyLock::new(|| {
        let order = std::env::var("TIDEGATE_TEST_FAULT").ok()?;
        let mut parts = order.splitn(3, ':');
        let hangs = parts.next()? == "hang";
        let trigger = PathBuf::from(parts.next()?);
        let name = parts.next()?.to_owned();
        Some(Fault {
            hangs,
            trigger,
            name,
        })
    });

    pub(super) struct Fault {
        hangs: bool,
        pub(super) trigger: PathBuf,
        pub(super) name: String,
    }

    impl Fault {
        #[allow(clippy::panic, reason = "that is what was ordered")]
        pub(super) fn happen(&self) {
            if !self.hangs {
                panic!("ordered by a test");
            }
            loop {
                std::thread::park();
            }
        }
    }
}
