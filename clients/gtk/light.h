/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A window that is small in memory and quick to start: drawn without OpenGL, whose libraries alone
 * take more than all the rest of such a program (LLVM, where there is no graphics card). Who has
 * set GDK_DEBUG or GSK_RENDERER has decided otherwise.
 *
 * Threads: main thread
 */

/* Before anything of GTK. */
void light_before(void);

/* Once the first window is shown: what is started from here on is not to inherit it. */
void light_after(void);
