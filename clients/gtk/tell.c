/* SPDX-License-Identifier: MIT */
#include "clients/gtk/tell.h"

void tell_notice(GtkInfoBar *bar, GtkLabel *text, GtkWidget *retry, GtkMessageType type,
                 bool can_retry, const char *sentence)
{
    gtk_info_bar_set_message_type(bar, type);
    gtk_label_set_text(text, sentence);
    gtk_widget_set_visible(retry, can_retry);
    gtk_info_bar_set_show_close_button(bar, !can_retry);
    gtk_widget_set_visible(GTK_WIDGET(bar), TRUE);
    gtk_info_bar_set_revealed(bar, TRUE);
}

void tell_progress(GtkProgressBar *bar, double fraction, const char *label)
{
    gtk_progress_bar_set_text(bar, label);
    if (fraction < 0)
        gtk_progress_bar_pulse(bar);
    else
        gtk_progress_bar_set_fraction(bar, fraction);
    gtk_widget_set_visible(GTK_WIDGET(bar), TRUE);
}
