/* SPDX-License-Identifier: MIT */
#include "clients/assistant/meter.h"

#include <string.h>

#define SILENCE_DB (-60)
#define LINE       2.0  /* pixels of one value at least, with its gap 1.5 times that */
#define LEAST      0.06 /* of the height: silence is a line of dots */

static void draw(GtkDrawingArea *area, cairo_t *cr, int width, int height, void *userdata)
{
    const struct meter *meter = userdata;
    const double step = MAX((double)width / METER_VALUES, LINE * 1.5);
    GdkRGBA color;

    gtk_style_context_get_color(gtk_widget_get_style_context(GTK_WIDGET(area)), &color);
    gdk_cairo_set_source_rgba(cr, &color);
    cairo_set_line_width(cr, step / 1.5);
    cairo_set_line_cap(cr, CAIRO_LINE_CAP_ROUND);
    for (guint i = 0; i < METER_VALUES && i * step < width; i++) {
        const double value =
            (double)meter->values[(meter->next + METER_VALUES - 1 - i) % METER_VALUES];
        const double x = width - (i + 0.5) * step, half = MAX(value, LEAST) * height / 2;
        const double end = MAX(half - step / 3, 0); /* the cap is round */

        cairo_move_to(cr, x, height / 2.0 - end);
        cairo_line_to(cr, x, height / 2.0 + end);
    }
    cairo_stroke(cr);
}

void meter_init(struct meter *meter, GtkDrawingArea *wave, GtkLevelBar *bar)
{
    *meter = (struct meter){.wave = wave, .bar = bar};
    gtk_drawing_area_set_draw_func(wave, draw, meter, NULL);
}

void meter_add(struct meter *meter, int db)
{
    const float value = (float)CLAMP(db - SILENCE_DB, 0, -SILENCE_DB) / -SILENCE_DB;

    meter->values[meter->next++ % METER_VALUES] = value;
    gtk_level_bar_set_value(meter->bar, (double)value);
    gtk_widget_queue_draw(GTK_WIDGET(meter->wave));
}

void meter_clear(struct meter *meter)
{
    memset(meter->values, 0, sizeof(meter->values));
    gtk_level_bar_set_value(meter->bar, 0);
    gtk_widget_queue_draw(GTK_WIDGET(meter->wave));
}
