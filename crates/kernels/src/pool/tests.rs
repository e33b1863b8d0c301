//! The pool under what it is for: many jobs, too many threads, panics, work inside work.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pool::Pool;
use crate::pool::tiles::Grid;

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap())
}

#[test]
fn each_chunk_is_done_once() {
    for threads in [1, 2, 3, 8] {
        let pool = pool(threads);
        assert_eq!(pool.threads(), threads);
        for chunks in [0, 1, 2, 7, 100] {
            let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(chunks, &|chunk| {
                counts[chunk].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} × {chunks}");
        }
    }
}

#[test]
fn many_callers_with_more_threads_than_cores_keep_their_jobs_apart() {
    let pool = pool(16);
    std::thread::scope(|scope| {
        for caller in 0..4_usize {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..300 {
                    let chunks = (round * 7 + caller) % 23;
                    let sum = AtomicUsize::new(0);
                    pool.run(chunks, &|chunk| {
                        sum.fetch_add(chunk + 1, Ordering::Relaxed);
                    });
                    assert_eq!(sum.into_inner(), chunks * (chunks + 1) / 2);
                }
            });
        }
    });
}

#[test]
fn a_panic_in_a_chunk_comes_out_of_the_caller_and_the_pool_goes_on() {
    let pool = pool(4);
    for _ in 0..20 {
        let thrown = catch_unwind(AssertUnwindSafe(|| {
            pool.run(50, &|chunk| assert!(chunk != 13, "chunk thirteen"));
        }));
        let thrown = thrown.unwrap_err();
        let text = thrown.downcast_ref::<&str>().copied().unwrap_or_default();
        assert!(text.contains("chunk thirteen"), "{text}");
        let count = AtomicUsize::new(0);
        pool.run(50, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 50);
    }
}

#[test]
fn work_inside_work_runs_where_it_stands() {
    let (outer, other) = (pool(3), pool(3));
    let count = AtomicUsize::new(0);
    outer.run(8, &|_| {
        for inner in [&outer, &other] {
            let here = std::thread::current().id();
            inner.run(8, &|_| {
                assert_eq!(std::thread::current().id(), here);
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(count.into_inner(), 8 * 2 * 8);
}

#[test]
fn tiles_cover_each_matrix_once() {
    let pool = pool(3);
    for (rows, width, row_step, column_step) in
        [(5, 7, 2, 3), (1, 1, 1, 1), (4, 8, 9, 9), (3, 0, 1, 1), (0, 4, 2, 2)]
    {
        let (mut a, mut b) = (vec![0_usize; rows * width], vec![0_usize; 2 * rows * width]);
        let mut grids = [&mut a, &mut b].map(|out| Grid { out, width, row_step, column_step });
        pool.tiles(&mut grids, |grid, mut tile| {
            for row in tile.rows() {
                let first = tile.columns().start;
                for (i, cell) in tile.row(row).iter_mut().enumerate() {
                    *cell += 1 + grid * 1000 + row * width + first + i;
                }
            }
        });
        assert!(a.iter().enumerate().all(|(i, cell)| *cell == 1 + i));
        assert!(b.iter().enumerate().all(|(i, cell)| *cell == 1001 + i));
    }
}

/// The processor time that this process has used so far, in ticks of 10 ms, where the system tells.
#[cfg(target_os = "linux")]
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Counts the ticks of the whole process, so it must be the only test that runs: `cargo test -- --ignored idle`.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "measures the whole process; run it alone: cargo test -p kernels idle -- --ignored"]
fn idle_threads_use_no_time() {
    let pool = pool(8);
    pool.run(100, &|_| std::thread::sleep(std::time::Duration::from_micros(10)));
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(ticks() - before <= 1, "{} ticks of 10 ms in 2 s", ticks() - before);
}
