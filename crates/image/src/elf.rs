//! What a program needs to be started: its loader, its libraries, its architecture. Read from the file itself, so that
//! a program of another architecture is understood too, which `ldd` (it runs the program) cannot do.

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::{DT_NEEDED, EM_AARCH64, EM_X86_64, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

/// What a program or library needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Go's name of its architecture.
    pub architecture: &'static str,
    /// Path of the loader; none for a library or a static program.
    pub loader: Option<String>,
    /// File names of libraries that it names itself.
    pub libraries: Vec<String>,
}

/// Reads what an ELF file needs.
///
/// # Errors
/// It is no ELF file of 64 bits, or of an architecture that no image is made for.
pub fn needs(file: &[u8]) -> Result<Needs> {
    let header = FileHeader64::<Endianness>::parse(file).context("it is no ELF program of 64 bits")?;
    let endian = header.endian()?;
    let architecture = match header.e_machine(endian) {
        EM_X86_64 => "amd64",
        EM_AARCH64 => "arm64",
        other => bail!("machine {other} is neither x86-64 nor aarch64"),
    };
    let mut loader = None;
    for segment in header.program_headers(endian, file)? {
        if let Some(path) = segment.interpreter(endian, file)? {
            loader = Some(text(path)?);
        }
    }
    let sections = header.sections(endian, file)?;
    let dynamic = sections.dynamic_table(endian, file)?;
    let needed = dynamic.iter().filter(|entry| entry.tag == DT_NEEDED);
    let libraries = needed.map(|entry| text(dynamic.string(entry)?)).collect::<Result<_>>()?;
    Ok(Needs { architecture, loader, libraries })
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::needs;

    #[test]
    fn this_program_needs_the_libc_of_this_machine() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&own).unwrap();
        assert_eq!(needs.architecture, crate::oci::architecture(std::env::consts::ARCH));
        assert!(needs.libraries.iter().any(|library| library == "libc.so.6"), "{needs:?}");
        assert!(std::path::Path::new(needs.loader.as_deref().unwrap()).is_file(), "{needs:?}");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(needs(b"#!/bin/sh").unwrap_err().to_string().contains("no ELF program"));
        assert!(needs(b"").is_err());
    }
}
